"""Looks at the computer: the state folder, the journal, the libraries."""

from __future__ import annotations

import contextlib
import fcntl
import importlib
import os
import secrets
import shutil
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from printsvc.errors import PrintsvcError
from spooler.doctor.report import Check, Status, ok
from spooler.peek import NotSetUpError, peek

_ABOUT = "computer"
_LOW_BYTES, _TOO_LOW_BYTES = 500_000_000, 50_000_000
_COMPILED = ("cups", "deflate", "numpy", "uharfbuzz")  # a package of another architecture or Python shows here


def look_at_libraries() -> Iterator[Check]:
    """Look whether the compiled libraries load here."""
    for name in _COMPILED:
        try:
            importlib.import_module(name)
        except ImportError as error:
            yield Check(
                _ABOUT,
                "library-missing",
                Status.PROBLEM,
                f"the library {name} does not load: {error}",
                f"không nạp được thư viện {name}: {error}",
                "install the package printsvc-spooler for this Debian release and processor",
                "cài gói printsvc-spooler đúng phiên bản Debian và bộ xử lý của máy này",
            )
            return
    yield ok(_ABOUT, "libraries", "the libraries load", "các thư viện hoạt động")


def look_at_folder(folder: Path) -> Iterator[Check]:
    """Look at the state folder: there, private, ours, writable to the disk, with room. Writes a file and removes it."""
    try:
        about = folder.stat()
    except OSError as error:
        yield Check(
            _ABOUT,
            "folder-missing",
            Status.PROBLEM,
            f"the state folder {folder} cannot be seen: {error.strerror}",
            f"không mở được thư mục dữ liệu {folder}: {error.strerror}",
            "enrol this agent: printsvc-spooler enroll --code CODE --url URL",
            "đăng ký máy này: printsvc-spooler enroll --code MÃ --url ĐỊA_CHỈ",
        )
        return
    yield from _look_at_modes(folder, about)
    yield _look_at_writing(folder)
    yield _look_at_room(folder)


def _look_at_modes(folder: Path, about: os.stat_result) -> Iterator[Check]:
    open_ones = [folder] if about.st_mode & 0o077 else []
    for name in ("journal.db", "journal.db-wal", "documents"):
        with contextlib.suppress(OSError):
            if (folder / name).stat().st_mode & 0o077:
                open_ones.append(folder / name)
    if about.st_uid not in (os.geteuid(), 0) and os.geteuid() != 0:
        yield Check(
            _ABOUT,
            "folder-not-ours",
            Status.PROBLEM,
            f"the state folder {folder} belongs to another user",
            f"thư mục dữ liệu {folder} thuộc về người dùng khác",
            f"run doctor as the user of the agent, or: chown -R printsvc-spooler: {folder}",
            f"chạy doctor bằng người dùng của tiến trình in, hoặc: chown -R printsvc-spooler: {folder}",
        )
    if open_ones:
        names = " ".join(str(path) for path in open_ones)
        yield Check(
            _ABOUT,
            "folder-open",
            Status.PROBLEM,
            f"others may read {names}: the token and the documents are there",
            f"người khác đọc được {names}: có mã truy cập và giấy tờ trong đó",
            f"chmod -R go= {folder}",
            f"chmod -R go= {folder}",
        )
    else:
        mode = stat.filemode(about.st_mode)
        yield ok(_ABOUT, "folder", f"state folder {folder} ({mode})", f"thư mục dữ liệu {folder}")


def _look_at_writing(folder: Path) -> Check:
    probe = folder / f"doctor-{secrets.token_hex(4)}"
    try:
        with open(probe, "xb") as file:
            file.write(b"printsvc-spooler doctor\n" * 200)
            file.flush()
            os.fsync(file.fileno())
        return ok(
            _ABOUT, "folder-writable", "it can be written, and synced to the disk", "ghi được và đồng bộ xuống đĩa"
        )
    except OSError as error:
        return Check(
            _ABOUT,
            "folder-unwritable",
            Status.PROBLEM,
            f"nothing can be written to {folder}: {error.strerror}",
            f"không ghi được vào {folder}: {error.strerror}",
            "make room on the disk, or give the folder to the agent's user; nothing is printed meanwhile",
            "giải phóng ổ đĩa hoặc cấp quyền thư mục cho tiến trình in; tạm thời không in",
        )
    finally:
        with contextlib.suppress(OSError):
            probe.unlink()


def _look_at_room(folder: Path) -> Check:
    try:
        free = shutil.disk_usage(folder).free
    except OSError as error:
        return Check(_ABOUT, "room", Status.UNSEEN, f"free space: {error.strerror}", f"dung lượng: {error.strerror}")
    megabytes = free // 1_000_000
    if free >= _LOW_BYTES:
        return ok(_ABOUT, "room", f"{megabytes} MB are free", f"còn trống {megabytes} MB")
    return Check(
        _ABOUT,
        "room-low",
        Status.PROBLEM if free < _TOO_LOW_BYTES else Status.ADVICE,
        f"only {megabytes} MB are free",
        f"chỉ còn trống {megabytes} MB",
        "make room: with a full disk nothing new is printed",
        "giải phóng ổ đĩa: đầy đĩa thì không in được giấy mới",
    )


def look_at_journal(folder: Path) -> Iterator[tuple[Check, dict[str, Any]]]:
    """Look at the journal and at whether an agent runs with it; with each check what the journal says, or {}."""
    try:
        journal = peek(folder)
    except NotSetUpError as error:
        mend_en = "ask an admin for a code, then: printsvc-spooler enroll --code CODE --url URL"
        mend_vi = "xin mã của quản trị viên, rồi: printsvc-spooler enroll --code MÃ --url ĐỊA_CHỈ"
        yield Check(_ABOUT, error.code, Status.PROBLEM, "not enrolled yet", "chưa đăng ký", mend_en, mend_vi), {}
        return
    except PrintsvcError as error:
        yield Check(_ABOUT, error.code, Status.PROBLEM, error.en, error.vi), {}
        return
    counts, site_id = journal["counts"], journal["site_id"]
    if not journal["enrolled"]:
        yield (
            Check(
                _ABOUT,
                "not_enrolled",
                Status.PROBLEM,
                "there is a journal, but no token",
                "có nhật ký nhưng chưa có mã truy cập",
                "printsvc-spooler enroll --code CODE --url URL",
                "printsvc-spooler enroll --code MÃ --url ĐỊA_CHỈ",
            ),
            journal,
        )
    else:
        yield (
            ok(
                _ABOUT,
                "enrolled",
                f"enrolled for site {site_id} ({journal['url']})",
                f"đã đăng ký cho điểm tiêm {site_id} ({journal['url']})",
            ),
            journal,
        )
    uncertain = counts.get("uncertain", 0)
    if uncertain:
        yield (
            Check(
                _ABOUT,
                "papers-uncertain",
                Status.ADVICE,
                f"{uncertain} papers are uncertain: only a person can say whether they came out",
                f"{uncertain} giấy chưa rõ đã in hay chưa: cần người kiểm tra",
                "look at the printers, then settle them on the site's worklist",
                "kiểm tra máy in rồi xử lý trong danh sách của điểm tiêm",
            ),
            journal,
        )
    yield _look_at_agent(folder), journal


def _look_at_agent(folder: Path) -> Check:
    start = "systemctl start printsvc-spooler"
    try:
        lock = os.open(folder / "journal.lock", os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return Check(_ABOUT, "agent-stopped", Status.ADVICE, "no agent runs", "tiến trình in chưa chạy", start, start)
    try:
        fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError:
        return ok(_ABOUT, "agent", "the agent runs", "tiến trình in đang chạy")
    finally:
        os.close(lock)
    return Check(_ABOUT, "agent-stopped", Status.ADVICE, "no agent runs", "tiến trình in chưa chạy", start, start)
