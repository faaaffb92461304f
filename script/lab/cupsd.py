"""A private cupsd, configured as the service asks of a site: no job is lost or cancelled by a default."""

from __future__ import annotations

import shutil
import signal
import subprocess
from pathlib import Path

from lab.errors import LabError
from lab.processes import TAG, ProcessSet, free_port, kill_session, listens, wait_until

_SYSTEM_BIN = Path("/usr/lib/cups")

# Without DirtyCleanInterval 0 a kill -9 loses queued jobs and job ids are used again; MaxJobTime's default cancels
# what waits 3 h for paper; JobRetryLimit's default gives a job up; MaxJobs' default forgets jobs and refuses new ones.
# A site's says PreserveJobFiles No. Here files are kept: the worst that CUPS can do after a restart (print again)
# it does only where it still has the file; without, it aborts the job.
_CUPSD_CONF = """\
Listen 127.0.0.1:{port}
Listen {run}/cups.sock
LogLevel {log_level}
LogTimeFormat usecs
MaxLogSize 0
PageLogFormat %p %j %T %P %C %{{job-name}} %{{job-impressions-completed}}
Browsing No
BrowseLocalProtocols none
DefaultShared No
HostNameLookups Off
WebInterface No
DefaultAuthType None
DefaultEncryption Never
DirtyCleanInterval {dirty_clean_s}
MaxJobTime 0
JobRetryInterval 2
JobRetryLimit 0
JobKillDelay 5
MaxJobs 0
MaxJobsPerPrinter 0
MaxJobsPerUser 0
PreserveJobHistory Yes
PreserveJobFiles Yes
ErrorPolicy retry-job
<Location />
  Order allow,deny
  Allow from 127.0.0.1
</Location>
<Policy default>
  JobPrivateAccess all
  JobPrivateValues none
  SubscriptionPrivateAccess all
  SubscriptionPrivateValues none
  <Limit All>
    Order deny,allow
  </Limit>
</Policy>
"""

_CUPS_FILES_CONF = """\
User lp
Group lp
SystemGroup root
ServerRoot {base}/etc
ServerBin {base}/bin
DataDir /usr/share/cups
DocumentRoot /usr/share/cups/doc-root
CacheDir {base}/cache
RequestRoot {base}/spool
TempDir {base}/spool/tmp
StateDir {run}
AccessLog {log}/access_log
ErrorLog {log}/error_log
PageLog {log}/page_log
SyncOnClose Yes
SetEnv {tag_name} {tag}
SetEnv PRINTSVC_ONCE_DIR {once}
"""


class Cupsd:
    """`base` holds spool, cache and binaries and must be passable for user lp; `log` need not."""

    def __init__(self, base: Path, log: Path, backend: Path, processes: ProcessSet, bus: str) -> None:
        self.base = base
        self.log = log
        self.once_dir = base / "once"
        self.port = 0
        self.dirty_clean_s = 0  # CUPS's own default is 30; told at the next start
        self._backend = backend
        self._processes = processes
        self._bus = bus
        self._process: subprocess.Popen[bytes] | None = None
        self._prepare()

    @property
    def pid(self) -> int | None:
        """None when it does not run."""
        return self._process.pid if self._process is not None and self._process.poll() is None else None

    def start(self) -> None:
        """Start on the port it had before, or a free one; returns when it answers."""
        if self.pid is not None:
            return
        self.port = self.port or free_port()
        self._configure()
        command = [
            "/usr/sbin/cupsd",
            "-f",
            "-c",
            f"{self.base}/etc/cupsd.conf",
            "-s",
            f"{self.base}/etc/cups-files.conf",
        ]
        self._process = self._processes.spawn(command, self.log / "cupsd.out", {"DBUS_SYSTEM_BUS_ADDRESS": self._bus})
        wait_until(self._answers, 15, f"cupsd (see {self.log}/error_log)")

    def stop(self, patience_s: float = 30.0) -> None:
        """SIGTERM, as an init system stops it, and wait; it ends its filters and backends itself."""
        if self._process is not None and self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)
            self._process.wait(timeout=patience_s)

    def kill(self) -> None:
        """Kill -9. Filters and backends at work go on without it, as they do on a real machine."""
        if self._process is not None:
            kill_session(self._process)

    def restart(self) -> None:
        """What `systemctl restart cups` does."""
        self.stop()
        self.start()

    def stand_in(self, filter_name: str, script: str) -> None:
        """Put a shell script in the place of one of CUPS's filters; `$REAL` is what it stands in for."""
        folder = self.base / "bin/filter"
        if folder.is_symlink():
            folder.unlink()
            folder.mkdir()
            for entry in (_SYSTEM_BIN / "filter").iterdir():
                _link(folder / entry.name, entry)
        program = folder / filter_name
        program.unlink()
        program.write_text(f"#!/bin/sh\nREAL={_SYSTEM_BIN}/filter/{filter_name}\n{script}\n")
        program.chmod(0o755)

    def _answers(self) -> bool:
        if self._process is None or self._process.poll() is not None:
            raise LabError(f"cupsd ended at its start; see {self.log}/error_log and {self.log}/cupsd.out")
        return listens(self.port)

    def _prepare(self) -> None:
        for directory in ("etc/ppd", "etc/ssl", "cache", "spool/tmp", "run", "bin/backend"):
            (self.base / directory).mkdir(parents=True, exist_ok=True)
        for directory, mode in (("cache", 0o770), ("spool", 0o710), ("spool/tmp", 0o1770), ("run", 0o755)):
            shutil.chown(self.base / directory, group="lp")
            (self.base / directory).chmod(mode)
        self.once_dir.mkdir(exist_ok=True)
        shutil.chown(self.once_dir, "lp", "lp")
        self.once_dir.chmod(0o700)
        for entry in _SYSTEM_BIN.iterdir():
            if entry.name != "backend":
                _link(self.base / "bin" / entry.name, entry)
        for entry in (_SYSTEM_BIN / "backend").iterdir():
            _link(self.base / "bin/backend" / entry.name, entry)
        # A copy: cupsd runs only programs that root owns and nobody else can write, a checkout need not be that.
        ours = self.base / "bin/backend" / self._backend.name
        shutil.copyfile(self._backend, ours)
        shutil.chown(ours, "root", "root")
        ours.chmod(0o755)

    def _configure(self) -> None:
        values = {
            "base": self.base,
            "run": self.base / "run",
            "log": self.log,
            "once": self.once_dir,
            "port": self.port,
            "log_level": "debug",
            "dirty_clean_s": self.dirty_clean_s,
            "tag_name": TAG,
            "tag": self._processes.tag,
        }
        (self.base / "etc/cupsd.conf").write_text(_CUPSD_CONF.format(**values), "utf-8")
        (self.base / "etc/cups-files.conf").write_text(_CUPS_FILES_CONF.format(**values), "utf-8")


def _link(link: Path, target: Path) -> None:
    if not link.is_symlink():
        link.symlink_to(target)
