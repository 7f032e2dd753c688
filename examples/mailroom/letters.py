"""Reads a folder of .eml files into letters: who sends, who receives, and the exact bytes to hand over.

Only the header block is looked at; the body is never parsed, so that whatever is in it arrives unchanged. A file that
cannot be delivered is reported with its reason and never stops the others.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from email.utils import getaddresses
from pathlib import Path

SHIPPED = Path(__file__).parent / "messages"
ID_HEADER = "X-Mailroom-Id"  # what a delivery is filed under; the demo puts it on top of each message
DEFAULT_SENDER = "postmaster@mailroom.example.org"  # for mail that does not say who sends it
CRLF = b"\r\n"

_LINE_END = re.compile(rb"\r\n|\r|\n")
_FIELD = re.compile(rb"([!-9;-~]+)[ \t]*:")  # a field name as RFC 5322 defines it
_ADDRESS = re.compile(r'(?:"[^"<>\r\n]+"|[^\s<>@",;:]+)@[^\s<>@",;:]+')
_RECIPIENT_FIELDS = (b"to", b"cc", b"bcc")


class FolderError(Exception):
    """The folder cannot be used; the message is one complete line for the person who named it."""


class LetterError(ValueError):
    """One file is not a message that can be delivered; the message says why."""


@dataclass(frozen=True, slots=True)
class Letter:
    """One message. `content` has CRLF line ends and no Bcc header; `unusable` are recipients that are no addresses."""

    name: str
    sender: str
    recipients: tuple[str, ...]
    unusable: tuple[str, ...]
    content: bytes


@dataclass(frozen=True, slots=True)
class Folder:
    """What was found: the letters in the order of their names, and (file name, reason) for what was left out."""

    letters: tuple[Letter, ...]
    skipped: tuple[tuple[str, str], ...]


def read_folder(folder: Path) -> Folder:
    """Every .eml file directly in *folder*. Raises `FolderError` when there is no such folder or no such file."""
    try:
        paths = sorted(path for path in folder.iterdir() if path.suffix.lower() == ".eml")
    except FileNotFoundError:
        raise FolderError(f"there is no folder {printable(str(folder))}") from None
    except NotADirectoryError:
        raise FolderError(f"{printable(str(folder))} is not a folder") from None
    except OSError as error:
        raise FolderError(f"cannot read the folder {printable(str(folder))}: {error.strerror}") from None
    if not paths:
        raise FolderError(f"there is no .eml file in {printable(str(folder))}")
    letters: list[Letter] = []
    skipped: list[tuple[str, str]] = []
    for path in paths:
        name = printable(path.name)
        try:
            letter = parse(name, path.read_bytes())
        except OSError as error:
            skipped.append((name, f"cannot be read: {error.strerror}"))
        except LetterError as error:
            skipped.append((name, str(error)))
        else:
            letters.append(letter)
            skipped.extend((name, f"recipient left out, not an address: {text}") for text in letter.unusable)
    return Folder(tuple(letters), tuple(skipped))


def parse(name: str, raw: bytes) -> Letter:
    """The letter in *raw*, or `LetterError` when it has no usable header block or no recipient."""
    text = _LINE_END.sub(CRLF, raw.removeprefix(b"\xef\xbb\xbf")).lstrip(CRLF)
    if not text.strip():
        raise LetterError("the file is empty")
    head, _, body = text.partition(CRLF + CRLF)
    fields = _fields(head)
    wanted: dict[str, str] = {}  # one delivery for each address, however often it is named
    unusable: list[str] = []
    for field_name in _RECIPIENT_FIELDS:
        for address in _addresses(fields, field_name):
            if _ADDRESS.fullmatch(address) and address.isprintable():
                wanted.setdefault(address.lower(), address)
            else:
                unusable.append(printable(address))
    if not wanted:
        raise LetterError(
            f"no usable recipient: {', '.join(unusable)}" if unusable else "no recipient in To, Cc or Bcc"
        )
    kept = CRLF.join(content for field_name, content in fields if field_name != b"bcc")
    content = kept + CRLF + CRLF + body
    if not content.endswith(CRLF):
        content += CRLF
    return Letter(name, _sender(fields), tuple(wanted.values()), tuple(unusable), content)


def printable(text: str) -> str:
    """*text* made safe to print: nothing in a file's name or content can move the cursor or break the line."""
    shown = "".join(character if character.isprintable() else "?" for character in text)
    return shown if len(shown) <= 120 else shown[:117] + "..."


def _fields(head: bytes) -> list[tuple[bytes, bytes]]:
    """The header block as (name in lower case, the field with its folded lines)."""
    fields: list[tuple[bytes, bytes]] = []
    for number, line in enumerate(head.split(CRLF), 1):
        match = _FIELD.match(line)
        if line[:1] in (b" ", b"\t") and fields:
            name, content = fields[-1]
            fields[-1] = (name, content + CRLF + line)
        elif match:
            fields.append((match[1].lower(), line))
        elif number == 1 and line.startswith(b"From "):
            continue  # the separator line that mbox tools leave behind
        else:
            raise LetterError(f"not a mail message: line {number} is not a header field")
    return fields


def _addresses(fields: list[tuple[bytes, bytes]], wanted: bytes) -> list[str]:
    found: list[str] = []
    for name, content in fields:
        if name == wanted:
            value = content.partition(b":")[2].replace(CRLF, b"").decode("utf-8", "replace")
            parsed = [address for _, address in getaddresses([value]) if address]
            found.extend(
                parsed or ([value.strip()] if "@" in value else [])
            )  # what it cannot read, somebody should see
    return found


def _sender(fields: list[tuple[bytes, bytes]]) -> str:
    for name in (b"sender", b"from"):
        for address in _addresses(fields, name):
            if _ADDRESS.fullmatch(address) and address.isprintable():
                return address
    return DEFAULT_SENDER
