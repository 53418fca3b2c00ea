"""The Buildfiles that imgbuild and buildah build for comparison, the context that all of them read, and the differences that are known.

A difference has a reason. Where buildah and BuildKit differ, what BuildKit documents is right.
"""

from __future__ import annotations

import io
import os
import tarfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import zstandard

_WHEN = 1_600_000_000


@dataclass(frozen=True)
class Case:
    """A Buildfile for both. `differs` names each path of the root file system ("/" at its start) and each key of the config in which the
    two differ, with the reason; `arguments` and `ignore` (an ignore file) are given to both. `refused` is why buildah does not build it."""

    text: str
    differs: Mapping[str, str] = field(default_factory=dict)
    arguments: tuple[str, ...] = ()
    ignore: str = ""
    refused: str = ""


def make_context(place: Path) -> None:
    """The files that the Buildfiles copy."""
    for directory in ("d/sub/deep", "d/empty", "many", "tree/x/y", "tree/z", "weird"):
        (place / directory).mkdir(parents=True)
    for name in (
        "f", "g", "run.sh", "suid", "with space", "*star", "[x]", "ünï", ".hidden", "many/1.txt", "many/2.txt", "many/3.md", "many/.dot",
        "d/a", "d/b.md", "d/sub/c", "d/sub/deep/e", "tree/x/1.txt", "tree/x/y/2.txt", "tree/x/y/3.md", "tree/z/4.txt", "weird/a b",
    ):  # fmt: skip
        (place / name).write_text(f"{name}\n")
    for name, mode in (("g", 0o600), ("run.sh", 0o755), ("suid", 0o4755), ("d/sub", 0o750), ("d/empty", 0o2775), ("many", 0o1777)):
        (place / name).chmod(mode)
    for name, target in (("link", "f"), ("dlink", "d"), ("dangling", "nowhere"), ("d/in", "a"), ("d/up", "../f"), ("abs", "/f")):
        (place / name).symlink_to(target)
    os.link(place / "f", place / "tree/hard")
    os.link(place / "tree/x/1.txt", place / "tree/x/one.txt")
    plain = _archive()
    (place / "plain.tar").write_bytes(plain)
    for mode in ("gz", "bz2", "xz"):
        (place / f"t.{mode}").write_bytes(_archive(mode))
    (place / "t.zst").write_bytes(zstandard.ZstdCompressor().compress(plain))
    (place / "fake.tar").write_text("not an archive\n")


def _archive(compression: str = "") -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode=f"w:{compression}") as tar:

        def add(
            name: str, kind: bytes = tarfile.REGTYPE, data: bytes = b"", link: str = "", mode: int = 0o644, uid: int = 0, note: str = ""
        ) -> None:
            info = tarfile.TarInfo(name)
            info.pax_headers = {"SCHILY.xattr.user.note": note} if note else {}
            info.type, info.size, info.linkname, info.mode, info.uid, info.gid, info.mtime = kind, len(data), link, mode, uid, uid, _WHEN
            tar.addfile(info, io.BytesIO(data))

        add("top", tarfile.DIRTYPE, mode=0o750)
        add("top/file", data=b"data", mode=0o640, uid=1000)
        add("top/suid", data=b"s", mode=0o4755)
        add("top/soft", tarfile.SYMTYPE, link="file")
        add("top/hard", tarfile.LNKTYPE, link="top/file")
        add("implied/deep/file", data=b"i")
        add("noted", data=b"n", note="words")
    return buffer.getvalue()


CASES: dict[str, Case] = {}

Reasons = Mapping[str, str]


def case(name: str, text: str, *differs: Reasons, ignore: str = "", arguments: tuple[str, ...] = (), refused: str = "") -> None:
    """Note a case."""
    CASES[name] = Case(text, {key: reason for some in differs for key, reason in some.items()}, arguments, ignore, refused)


def _because(reason: str, *keys: str) -> Reasons:
    return dict.fromkeys(keys, reason)


def _bits(*paths: str) -> Reasons:
    return _because("buildah drops set-id bits and the sticky bit of what it copies from a context; BuildKit keeps modes", *paths)


def _links(*paths: str) -> Reasons:
    return _because("links between files of a context are an accident of the checkout: neither in a key nor in an image", *paths)


# COPY

case("copy_file", "FROM busybox\nCOPY f /new")
case("copy_file_into_directory", "FROM busybox\nCOPY f /etc\nCOPY f /etc/\nCOPY f /made/by/slash/\nCOPY f /made/as/file")
case("copy_several", "FROM busybox\nCOPY f g run.sh /several/")
case("copy_directory", "FROM busybox\nCOPY d /d", _bits("/d/empty"))
case(
    "copy_directory_onto_directory",
    "FROM busybox\nRUN mkdir -p /d/sub && chmod 700 /d /d/sub && echo kept > /d/kept\nCOPY d /d",
    _bits("/d/empty"),
)
case("copy_directory_with_slash", "FROM busybox\nCOPY d/ /d/\nCOPY d/. /e", _bits("/d/empty", "/e/empty"))
case(
    "copy_everything",
    "FROM busybox\nCOPY . /all",
    _bits("/all/d/empty", "/all/suid"),
    _links("/all/f", "/all/tree/hard", "/all/tree/x/1.txt", "/all/tree/x/one.txt"),
    ignore="*.tar\nt.*\n",
)
case("copy_to_root", "FROM busybox\nCOPY many /")
case("copy_wildcard", "FROM busybox\nCOPY many/*.txt /w/\nCOPY many/[12].* /c/\nCOPY many/?.md /q/")
case("copy_wildcard_directories", "FROM busybox\nCOPY d/s* /subs/\nCOPY */*.md /mds/")
case("copy_wildcard_of_one", "FROM busybox\nCOPY many/3.* /three")
case("copy_hidden_by_wildcard", "FROM busybox\nCOPY many/* /star/\nCOPY many/.* /dots/")
case(
    "copy_escaped",
    'FROM busybox\nCOPY [[]x] /e/\nCOPY ["with space", "\\\\*star", "/j/"]',
    refused="buildah escapes what is in a class of a pattern; a class is a class in BuildKit (Go's filepath.Match)",
)
case("copy_json", 'FROM busybox\nCOPY ["f", "g", "/json/"]\nCOPY ["weird/a b", "/a b"]')
case("copy_unicode", "FROM busybox\nCOPY ünï /ü/ñ")
case(
    "copy_relative_to_workdir",
    "FROM busybox\nWORKDIR /w\nCOPY f .\nCOPY f ./sub/\nCOPY f ../up\nCOPY f named\nCOPY d ./",
    _bits("/w/empty"),
)
case("copy_modes", "FROM busybox\nCOPY suid run.sh g /modes/\nCOPY d/empty /sgid\nCOPY many /sticky", _bits("/modes/suid"))
case("copy_symlink_source", "FROM busybox\nCOPY link /followed\nCOPY dlink /dir\nCOPY d/in /in\nCOPY abs /abs", _bits("/dir/empty"))
case("copy_symlinks_inside", "FROM busybox\nCOPY d /d\nCOPY d/in d/up /each/", _bits("/d/empty"))
case(
    "copy_through_symlinked_destination",
    "FROM busybox\nRUN mkdir /real && ln -s real /alias\nCOPY f /alias/\nCOPY f /alias/x\nCOPY d /alias",
    _bits("/real/empty"),
)
case(
    "copy_over_symlink_to_file",
    "FROM busybox\nRUN echo old > /old && ln -s old /alias\nCOPY f /alias",
    _because("the destination's symlinks are followed by BuildKit; buildah replaces the last one", "/alias", "/old"),
)
case("copy_over_file", "FROM busybox\nCOPY f /x\nCOPY --chown=ann g /x")
case("copy_overwrites_in_directory", "FROM busybox\nRUN mkdir /d && echo old > /d/a && chmod 600 /d/a\nCOPY d /d", _bits("/d/empty"))
case("copy_hard_links", "FROM busybox\nCOPY tree /tree", _links("/tree/x/1.txt", "/tree/x/one.txt"))
case(
    "copy_chown_names",
    "FROM busybox\nCOPY --chown=ann f /a\nCOPY --chown=bob:staff d /b\nCOPY --chown=ann:50 f /made/by/ann/",
    _bits("/b/empty"),
)
case("copy_chown_numbers", "FROM busybox\nCOPY --chown=12 f /a\nCOPY --chown=12:34 f /b\nCOPY --chown=0:34 d /c", _bits("/c/empty"))
case("copy_chown_variable", "FROM busybox\nARG WHO=ann\nENV GROUP=staff\nCOPY --chown=${WHO}:${GROUP} f /a")
case("copy_chmod", "FROM busybox\nCOPY --chmod=640 f /a\nCOPY --chmod=0755 d /tree/b\nCOPY --chmod=4711 --chown=ann f /c")
case("copy_as_user", "FROM busybox\nUSER ann\nWORKDIR /home/ann/w\nCOPY f .")
case("copy_variables", 'FROM busybox\nENV A=f B="/to here"\nCOPY $A ${B}/\nCOPY ${A:-g} ${UNSET:-/default}/')
case(
    "copy_from_stage",
    "FROM busybox AS one\nRUN echo made > /made && chown ann:staff /made && chmod 604 /made\n"
    "FROM busybox\nCOPY --from=one /made /m\nCOPY --from=0 made n/",
)
case(
    "copy_from_stage_chown",
    "FROM busybox AS one\nRUN mkdir /d && echo x > /d/x && chown -R ann /d\nFROM busybox\nCOPY --from=one --chown=bob /d /d",
)
case(
    "copy_from_stage_links",
    "FROM busybox AS one\nRUN mkdir /d && cd /d && echo x > a && ln a b && ln -s a c && ln -s /d/a e && mkfifo p\n"
    "FROM busybox\nCOPY --from=one /d /d",
)
case(
    "copy_from_stage_special_bits",
    "FROM busybox AS one\nRUN mkdir -p /d/t && chmod 1777 /d/t && echo x > /d/s && chmod 6711 /d/s\nFROM busybox\nCOPY --from=one /d /d",
)
case(
    "copy_from_stage_wildcard",
    "FROM busybox AS one\nRUN mkdir -p /d/1/x /d/2/y && touch /d/1/f /d/2/g\nFROM busybox\nCOPY --from=one /d/*/? /out/",
)
case("copy_from_image", "FROM scratch\nCOPY --from=busybox /etc/passwd /etc/group /etc/\nCOPY --from=busybox /bin/busybox /bin/")
case("copy_from_scratch_stage", "FROM scratch AS files\nCOPY d /\nFROM busybox\nCOPY --from=files / /out/", _bits("/out/empty"))
case(
    "copy_ignored",
    "FROM busybox\nCOPY . /all",
    _bits("/all/d/empty"),
    _links("/all/tree/x/1.txt", "/all/tree/x/one.txt"),
    _because("a directory that an exception brings back has its own mode in BuildKit", "/all/many"),
    ignore="*\n!d\nd/sub\n!many/*.md\n# comment\n\n  !tree/x/**  \ntree/**/*.md\n",
)
case("copy_ignored_directory", "FROM busybox\nCOPY d many /all/", _bits("/all/empty"), ignore="**/*.md\nd/sub/deep\n/d/a\nmany/../d/in\n")
case("copy_link_flag", "FROM busybox\nCOPY --link f /x/\nCOPY --link=false f /y/", refused="this flag is younger than Debian's buildah")

# ADD

case("add_file", "FROM busybox\nADD f /x\nADD d /d\nADD f g /many/", _bits("/d/empty"))
case("add_archives", "FROM busybox\nADD plain.tar /plain\nADD t.gz /gz/\nADD t.bz2 /bz2/\nADD t.xz /xz/")
case("add_zstd", "FROM busybox\nADD t.zst /zst/")
case("add_no_archive", "FROM busybox\nADD fake.tar /a/\nADD fake.tar /b.tar")
case(
    "add_archive_chown",
    "FROM busybox\nADD --chown=bob plain.tar /out/",
    _because(
        "--chown is that of an archive's entries in BuildKit, and what they imply is root's; buildah does the reverse",
        "/out/implied",
        "/out/implied/deep",
        "/out/implied/deep/file",
        "/out/noted",
        "/out/top",
        "/out/top/file",
        "/out/top/hard",
        "/out/top/soft",
        "/out/top/suid",
    ),
)
case(
    "add_archive_over_files",
    "FROM busybox\nRUN mkdir -p /out/top && echo old > /out/top/file && echo kept > /out/top/kept\nADD plain.tar /out",
)
case(
    "add_chmod",
    "FROM busybox\nADD --chmod=600 f /x\nADD --chmod=711 d /y",
    _because("an octal --chmod is that of the directories that are made, too, in BuildKit", "/y"),
)

case("xattrs_from_stage", "FROM busybox AS one\nADD plain.tar /\nRUN echo more >> /noted\nFROM busybox\nCOPY --from=one /noted /top /out/")

# RUN

case("run_files", "FROM busybox\nRUN echo a > /a && echo b > /b && rm /a && mkdir -p /c/d && mv /b /c/d/")
case("run_removes_from_base", "FROM busybox\nRUN rm /etc/group && rm -r /home")
case("run_replaces_directory", "FROM busybox\nRUN rm -r /home && mkdir /home && echo new > /home/new\nRUN rm -r /home && echo file > /home")
case("run_replaces_file_by_directory", "FROM busybox\nRUN rm /etc/group && mkdir /etc/group && touch /etc/group/x")
case("run_symlinks", "FROM busybox\nRUN ln -s /etc/passwd /p && ln -s nowhere /q && ln -s ../etc /home/etc && ln -sfn /var /home/etc")
case(
    "run_hard_links",
    "FROM busybox\nRUN echo x > /x && ln /x /y && ln /x /home/z\nRUN echo more >> /y\nRUN rm /x",
    _because("overlayfs copies one name of a file up, as BuildKit's does; buildah's vfs copies whole trees", "/y", "/home/z"),
)
case("run_modes", "FROM busybox\nRUN echo x > /x && chmod 4755 /x && mkdir /t && chmod 3777 /t && chmod 700 /home && chmod 2711 /var")
case("run_owners", "FROM busybox\nRUN echo x > /x && chown ann:staff /x && ln -s x /l && chown -h bob /l && chown 1234:5678 /home")
case("run_chmod_only", "FROM busybox\nRUN chmod 600 /etc/passwd\nRUN chown ann /etc/passwd")
case("run_special_files", "FROM busybox\nRUN mkfifo /fifo && chmod 622 /fifo\nRUN mkfifo -m 600 /home/p")
case("run_as_user", "FROM busybox\nUSER ann\nRUN id -u > /home/ann/u && id -g >> /home/ann/u && umask > /home/ann/m")
case("run_exec_form", 'FROM busybox\nRUN ["/bin/sh", "-c", "echo $0 $1 > /args", "zero", "one $HOME"]')
case("run_environment", "FROM busybox\nENV A=1 B='two words'\nARG C=3\nRUN echo \"$A|$B|$C|$D|$PATH\" > /env\nENV D=4\nRUN echo $D >> /env")
case(
    "run_shell",
    'FROM busybox\nSHELL ["/bin/sh", "-ec"]\nRUN false || echo recovered > /x; echo $0 >> /x\n'
    'SHELL ["/bin/busybox", "echo"]\nRUN nothing to see',
)
case("run_continuations", "FROM busybox\nRUN echo one \\\n  # a comment\n\n  two > /x && \\\n    echo three >> /x")
case("run_empty_change", "FROM busybox\nRUN true\nRUN touch -r /etc/passwd /etc/passwd")
case("run_names", "FROM busybox\nRUN cd / && touch 'a b' ./-dash \"quo'te\" 'new\\line' .wh && mkdir '.d' && touch ünï")
case("run_deep", "FROM busybox\nRUN p=/; for i in $(seq 40); do p=$p/d$i; done; mkdir -p $p && echo deep > $p/f")
case("run_sparse", "FROM busybox\nRUN dd if=/dev/zero of=/sparse bs=1 count=1 seek=1048575 2>/dev/null && truncate -s 3M /hole")

# WORKDIR, USER

case(
    "workdir", "FROM busybox\nWORKDIR /a/b\nWORKDIR c\nRUN pwd > where\nWORKDIR /d/../e", _because("BuildKit cleans the path", "WorkingDir")
)
case("workdir_variable", "FROM busybox\nENV BASE=/base\nARG SUB=sub\nWORKDIR $BASE/${SUB}\nWORKDIR ${UNSET:-dir}")
case("workdir_exists", "FROM busybox\nWORKDIR /tmp\nWORKDIR /home/ann")
case("workdir_of_a_user", "FROM busybox\nUSER ann\nWORKDIR /mine/deep")
case("workdir_through_symlink", "FROM busybox\nRUN mkdir /real && ln -s real /alias\nWORKDIR /alias/sub\nRUN touch here")
case(
    "user_forms",
    "FROM busybox\nUSER 1000\nRUN id -u > /tmp/a; id -g >> /tmp/a\nUSER ann:staff\n"
    "RUN id -u > /tmp/b; id -g >> /tmp/b\nUSER 77:88\nRUN id -u > /tmp/c; id -g >> /tmp/c\nUSER bob",
)

# What the config says

case("config_env", "FROM busybox\nENV A=1\nENV B=$A C=\"x $A y\" D='$A'\nENV OLD the rest $A\nENV A=2 E=$A PATH=/own:$PATH\nENV EMPTY=")
case(
    "config_arg",
    "ARG TAG=busybox\nFROM $TAG\nARG A=default\nARG B\nARG C=c\nENV A2=$A B2=$B C2=${C}\nRUN echo $A $B > /x",
    arguments=("--build-arg", "B=given", "--build-arg", "C=other"),
)
case("config_labels", "FROM busybox\nLABEL a=1 \"b c\"='d e' f=$PATH\nLABEL a=2\nLABEL old style text")
case("config_cmd", 'FROM busybox\nCMD ["echo", "a", "$PATH"]')
case("config_cmd_shell", "FROM busybox\nCMD echo a $PATH && true")
case("config_entrypoint", 'FROM busybox\nCMD ["lost"]\nENTRYPOINT ["/bin/echo", "x"]\nCMD ["y"]')
case("config_entrypoint_shell", "FROM busybox\nENTRYPOINT exec echo x")
case("config_entrypoint_resets_cmd", 'FROM busybox AS base\nCMD ["of", "the", "base"]\nFROM base\nENTRYPOINT ["/bin/echo"]')
case(
    "config_shell",
    'FROM busybox\nSHELL ["/bin/ash", "-c"]\nCMD echo x\nENTRYPOINT echo y',
    _because("SHELL is that of CMD and ENTRYPOINT, too (Dockerfile reference); not so in buildah", "Cmd", "Entrypoint"),
)
case(
    "config_expose",
    "FROM busybox\nARG P=90\nEXPOSE 80 81/tcp 53/udp $P/tcp\nEXPOSE 80/tcp 8000-8002",
    _because("BuildKit names each port of a range", "ExposedPorts"),
)
case(
    "config_volume",
    'FROM busybox\nENV V=/var/v\nVOLUME /data $V\nVOLUME ["/json", "/with space"]\nRUN mkdir -p /data && echo kept > /data/x',
    _because("VOLUME only says so in the config; buildah makes the directories", "/json", "/var/v", "/with space"),
    _because("what is written to a volume after it is declared is kept by BuildKit (Dockerfile reference)", "/data/x"),
)
case("config_healthcheck", "FROM busybox\nHEALTHCHECK --interval=5s --timeout=1m30s --start-period=2s --retries=4 CMD test -e /x")
case("config_healthcheck_exec", 'FROM busybox\nHEALTHCHECK CMD ["true", "x"]')
case("config_healthcheck_none", "FROM busybox AS a\nHEALTHCHECK CMD true\nFROM a\nHEALTHCHECK NONE")
case("config_stopsignal", "FROM busybox\nSTOPSIGNAL SIGUSR1")
case("config_stopsignal_number", "FROM busybox\nARG S=15\nSTOPSIGNAL $S")
case("config_user", "FROM busybox\nARG U=ann\nUSER $U:staff")
case("config_workdir", "FROM busybox\nWORKDIR /a//b/./c/..\n", _because("BuildKit cleans the path", "WorkingDir"))
case("config_onbuild", "FROM busybox\nONBUILD RUN echo x > /x\nONBUILD COPY --chown=ann f /f\nONBUILD ENV A=1")
case("config_maintainer", "FROM busybox\nMAINTAINER A. Uthor <a@example.org>")
case("config_from_scratch", 'FROM scratch\nENV A=1\nCMD ["/x"]\nCOPY f /x')

# Stages

case(
    "stages_inherit",
    "FROM busybox AS one\nENV A=1\nARG B=2\nWORKDIR /one\nUSER ann\nLABEL l=1\n"
    "FROM one AS two\nRUN echo $A-$B > /tmp/x\nFROM two\nLABEL m=2",
    _because("a stage inherits the ARGs of the one that it starts from (Dockerfile reference)", "/tmp/x"),
)
case(
    "stages_target",
    "FROM busybox AS one\nRUN echo 1 > /one\nFROM one AS two\nRUN echo 2 > /two\nFROM two\nRUN false",
    arguments=("--target", "two"),
)
case("stages_unneeded", "FROM busybox AS broken\nRUN false\nFROM busybox\nRUN echo x > /x", arguments=())
case(
    "stages_diamond",
    "FROM busybox AS a\nRUN echo a > /a\nFROM a AS b\nRUN echo b > /b\nFROM a AS c\n"
    "RUN echo c > /c\nFROM busybox\nCOPY --from=b /a /b /b/\nCOPY --from=c /c /c",
)
case(
    "stages_global_arg",
    "ARG WHICH=two\nFROM busybox AS one\nRUN echo 1 > /x\nFROM busybox AS two\n"
    "RUN echo 2 > /x\nFROM $WHICH\nARG WHICH\nRUN echo $WHICH > /y",
    refused="buildah does not look for a stage of the name that a variable gives",
)
case(
    "onbuild_in_a_stage",
    "FROM busybox AS base\nONBUILD COPY f /from-trigger\nONBUILD RUN echo $A > /ran\nFROM base\nARG A=arg\nRUN echo own > /own",
)
case("predefined_arguments", "FROM busybox\nARG TARGETOS\nARG TARGETARCH\nRUN echo $TARGETOS $TARGETARCH > /platform")
case(
    "directive_escape",
    "# escape=`\nFROM busybox\nRUN echo one ` \n  two > /x\nENV A=a`b",
    _because("the escape directive is that of words, too (Dockerfile reference)", "Env"),
)
