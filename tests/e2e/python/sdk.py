"""The unmodified Python SDK against a node: one test per call, for python.test.mjs.

usage: sdk.py TEST      the names of the functions below; settings as in lib/shoal.mjs
"""
import asyncio
import contextlib
import dataclasses
import os
import sys
import time
import uuid

from opencomputer import Image, Sandbox
from opencomputer.snapshot import Snapshots

URL = (os.environ.get("SHOAL_URL") or os.environ["OPENCOMPUTER_API_URL"]).rstrip("/").removesuffix("/api")
KEY = os.environ.get("SHOAL_API_KEY") or os.environ["OPENCOMPUTER_API_KEY"]
TEMPLATE = os.environ.get("SHOAL_TEMPLATE", "minimal")
KEYS = {"api_key": KEY, "api_url": URL}


def is_equal(seen, wanted):
    if seen != wanted:
        raise AssertionError(f"{str(seen)[:500]!r} is not {str(wanted)[:500]!r}")


@contextlib.asynccontextmanager
async def box(api_url=URL, **options):
    """A sandbox of this kind, ended in any case."""
    options = {"template": TEMPLATE, "timeout": 600, "memory_mb": 512, "api_key": KEY, **options}
    made = await Sandbox.create(api_url=api_url, **options)
    try:
        yield made
    finally:
        await made.kill()
        await made.close()


async def until(what, probe, seconds=120):
    end = time.monotonic() + seconds
    while not await probe():
        if time.monotonic() > end:
            raise AssertionError(f"{what}: did not happen within {seconds} s")
        await asyncio.sleep(0.1)


def collector():
    """What a session printed, as text, and how to get it there."""
    seen = {"out": b"", "err": b""}

    def add(name):
        def take(data):
            seen[name] += data
        return take

    return seen, {"on_stdout": add("out"), "on_stderr": add("err")}


async def life():
    async with box(envs={"A": "b c"}, metadata={"of": "python"}) as made:
        is_equal(made.status, "running")
        is_equal((await made.exec.run('printf %s "$A"')).stdout, "b c")
        is_equal(await made.is_running(), True)
        again = await Sandbox.connect(made.sandbox_id, **KEYS)
        is_equal((await again.commands.run("exit 7")).exit_code, 7)
        await made.set_timeout(900)
        await made.hibernate()
        await made.wake()
        is_equal((await made.exec.run("echo awake")).stdout, "awake\n")
        await again.close()
        await made.kill()
        is_equal(await made.is_running(), False)


async def addresses():
    """With and without /api and slashes, for requests and for both kinds of sockets."""
    for url in (URL, f"{URL}/", f"{URL}/api", f"{URL}/api/"):
        async with box(api_url=url) as made:
            session = await made.exec.start("exit 3")
            is_equal(await session.done, 3)
            await terminal_says(made, "echo here-$((2+2))\n", b"here-4")


async def files():
    async with box() as made:
        data = bytes(range(256)) * 400
        await made.files.write("/tmp/a b%.bin", data)
        is_equal(await made.files.read_bytes("/tmp/a b%.bin"), data)
        await made.files.write("/tmp/deep/er/text", "grüße ☃")
        is_equal(await made.files.read("/tmp/deep/er/text"), "grüße ☃")
        is_equal([one.name for one in await made.files.list("/tmp/deep")], ["er"])
        is_equal(await made.files.exists("/tmp/nothing"), False)
        await made.files.make_dir("/tmp/x/y")
        await made.files.remove("/tmp/x")
        is_equal(await made.files.exists("/tmp/x/y"), False)


async def much_output():
    """10 000 lines and 5 MB, through run and a session."""
    async with box() as made:
        is_equal((await made.exec.run("seq 1 10000")).stdout, "".join(f"{i}\n" for i in range(1, 10001)))
        result = await made.exec.run("head -c 5000000 /dev/zero | tr '\\0' x; head -c 1000000 /dev/zero | tr '\\0' y >&2")
        is_equal(result.exit_code, 0)
        is_equal((len(result.stdout), set(result.stdout)), (5_000_000, {"x"}))
        is_equal((len(result.stderr), set(result.stderr)), (1_000_000, {"y"}))
        seen, callbacks = collector()
        session = await made.exec.start("read go; seq 1 750000", **callbacks)
        await session.send_stdin("\n")
        is_equal(await session.done, 0)
        is_equal(seen["out"], b"".join(b"%d\n" % i for i in range(1, 750001)))
        is_equal(seen["err"], b"")


async def long_command():
    """Longer than the client waits between two bytes (30 s)."""
    async with box() as made:
        result = await made.exec.run("echo before; sleep 40; echo after", timeout=60)
        is_equal((result.exit_code, result.stdout), (0, "before\nafter\n"))


async def sessions():
    async with box() as made:
        seen, callbacks = collector()
        marks = []
        session = await made.exec.start("echo early; read x; echo got $x >&2; exit 5", **callbacks)
        await until("the first line", lambda: said(seen, b"early\n"))
        seen2, callbacks2 = collector()
        other = await made.exec.attach(session.session_id, on_scrollback_end=lambda: marks.append(1), **callbacks2)
        await until("the replay", lambda: said(seen2, b"early\n"))
        await other.send_stdin("this\n")
        is_equal((await session.done, await other.done), (5, 5))
        is_equal((seen["err"], seen2["err"], marks), (b"got this\n", b"got this\n", [1]))
        stopped = await made.exec.start("sleep 600")
        await stopped.kill(15)
        is_equal(await stopped.done, 143)
        listed = {one.session_id: one for one in await made.exec.list()}
        is_equal(listed[session.session_id].exit_code, 5)


async def said(seen, part):
    return part in seen["out"]


async def shell():
    """cd, export and functions stay; exit codes; outputs apart."""
    async with box() as made:
        sh = await made.exec.shell()
        is_equal((await sh.run("cd /usr; export X=5; f() { echo $X:$1; }; echo hi")).stdout, "hi\n")
        result = await sh.run("pwd; f a; echo problem >&2; (exit 3)")
        is_equal((result.stdout, result.stderr, result.exit_code), ("/usr\n5:a\n", "problem\n", 3))
        parts = []
        await sh.run("seq 1 1000", on_stdout=parts.append)
        is_equal(b"".join(parts).replace(b"\n", b" ").split()[-1], b"1000")
        is_equal((await sh.run("false")).exit_code, 1)
        await sh.close()


async def terminal_says(made, keys, wanted, **options):
    seen = {"out": b""}

    def take(data):
        seen["out"] += data

    pty = await made.pty.create(on_output=take, **options)
    await until("the prompt", lambda: said(seen, b" "))
    await pty.send(keys)
    await until(f"{wanted!r} on the terminal", lambda: said(seen, wanted))
    return pty


async def terminal():
    """Its socket is opened without /api, with the token of the sandbox as the key; also after a wake."""
    async with box() as made:
        pty = await terminal_says(made, "stty size\n", b"30 100", cols=100, rows=30)
        await pty.close()
        pty = await terminal_says(made, b"echo bytes-$((1+2))\n", b"bytes-3")
        await pty.close()
        await made.hibernate()
        pty = await terminal_says(made, "echo woken-$((1+1))\n", b"woken-2")
        await pty.send("exit\n")
        await until("its end", lambda: is_over(pty))


async def is_over(pty):
    return pty._read_task.done()


async def images():
    """A build, a hit, a snapshot; the client that asked for events goes on with plain answers; the hash is the SDK's."""
    mark = f"python-{uuid.uuid4().hex[:8]}"
    image = Image.base().run_commands(f"echo {mark} >/home/sandbox/mark").env({"Q": "it's \"$x\"", "A": "1"}).workdir("/opt/app dir")
    image = dataclasses.replace(image, _base=TEMPLATE, _builder_memory_mb=1024)  # of the template that is quick
    logs, again = [], []
    async with box(image=image, memory_mb=1024, on_build_log=logs.append) as first:
        is_equal((await first.exec.run("cat /home/sandbox/mark; pwd; printf %s \"$Q\"")).stdout,
                 f"{mark}\n/opt/app dir\nit's \"$x\"")
        is_equal(any("Step 1/3" in line for line in logs), True)
        await first.hibernate()
        is_equal((await first.exec.run("echo awake")).stdout, "awake\n")
    async with box(image=image, memory_mb=1024, on_build_log=again.append) as second:
        is_equal((await second.exec.run("cat /home/sandbox/mark")).stdout, f"{mark}\n")
    is_equal((any("found in cache" in line for line in again), any("Step" in line for line in again)), (True, False))
    snapshots = Snapshots(**KEYS)
    made = await snapshots.create(name=mark, image=image)
    is_equal((made["status"], made["name"], made["contentHash"]), ("ready", mark, image.cache_key()))
    async with box(snapshot=mark, memory_mb=None) as third:
        is_equal((await third.exec.run("cat /home/sandbox/mark")).stdout, f"{mark}\n")
    is_equal(mark in [one["name"] for one in await snapshots.list()], True)
    await snapshots.delete(mark)
    await snapshots.close()


async def patches():
    async with box() as made:
        checkpoint = (await made.create_checkpoint("one"))["id"]

        async def ready():
            return [one["status"] for one in await made.list_checkpoints()] == ["ready"]

        await until("the checkpoint is ready", ready)
        fork = await Sandbox.create_from_checkpoint(checkpoint, **KEYS)
        try:
            added = await Sandbox.create_checkpoint_patch(checkpoint, "echo one >>/root/log", **KEYS)
            is_equal((added["patch"]["sequence"], added["patch"]["strategy"]), (1, "on_wake"))
            await fork.hibernate()
            await fork.wake()
            is_equal((await fork.exec.run("cat /root/log")).stdout, "one\n")
            is_equal(len(await Sandbox.list_checkpoint_patches(checkpoint, **KEYS)), 1)
            await Sandbox.delete_checkpoint_patch(checkpoint, added["patch"]["id"], **KEYS)
            is_equal(await Sandbox.list_checkpoint_patches(checkpoint, **KEYS), [])
        finally:
            await fork.kill()
            await fork.close()


async def agents():
    """Without a key of a model (template base): the session, its error, its end."""
    async with box(template="base", memory_mb=1024) as made:
        session = await made.agent.start(prompt="hello")
        events = [event.type for event in await session.collect_events()]
        is_equal("error" in events, True)
        is_equal(any(one.session_id == session.session_id for one in await made.agent.list()), True)
        await session.close()


TESTS = [life, addresses, files, much_output, long_command, sessions, shell, terminal, images, patches, agents]

if __name__ == "__main__":
    asyncio.run({test.__name__: test for test in TESTS}[sys.argv[1]]())
