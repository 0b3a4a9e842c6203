"""pymemcache against the server at argv[1]:argv[2]."""
import sys
import time

from pymemcache.client.base import Client

c = Client((sys.argv[1], int(sys.argv[2])), timeout=30, connect_timeout=30)
c.flush_all()


def want(got, expected):
    if got != expected:
        raise SystemExit(f"got {got!r:.200}, want {expected!r:.200}")


binary = bytes(range(256)) + b"\r\nEND\r\n"
large = b"0123456789" * 100_000

want(c.get("none"), None)
want(c.set("k", b"value", noreply=False), True)
want(c.get("k"), b"value")
want(c.set("bin", binary, noreply=False), True)
want(c.get("bin"), binary)
want(c.set("large", large, noreply=False), True)
want(c.get("large"), large)
want(c.set("empty", b"", noreply=False), True)
want(c.get("empty"), b"")

want(c.set_many({f"many{i}": str(i) for i in range(300)}, noreply=False), [])
got = c.get_many([f"many{i}" for i in range(310)])
want(got, {f"many{i}": str(i).encode() for i in range(300)})

want(c.add("k", b"x", noreply=False), False)
want(c.add("new", b"x", noreply=False), True)
want(c.replace("new", b"y", noreply=False), True)
want(c.replace("nope", b"y", noreply=False), False)
want(c.append("new", b"z", noreply=False), True)
want(c.prepend("new", b"x", noreply=False), True)
want(c.get("new"), b"xyz")

value, unique = c.gets("new")
want(c.cas("new", b"mine", unique, noreply=False), True)
want(c.cas("new", b"late", unique, noreply=False), False)
want(c.cas("nope", b"late", unique, noreply=False), None)
want(c.get("new"), b"mine")
want(c.gets_many(["new", "nope"])["new"][0], b"mine")

want(c.set("n", b"10", noreply=False), True)
want(c.incr("n", 5), 15)
want(c.decr("n", 20), 0)
want(c.incr("nope", 5), None)

want(c.touch("k", 1000, noreply=False), True)
want(c.touch("nope", 1000, noreply=False), False)
want(c.delete("k", noreply=False), True)
want(c.delete("k", noreply=False), False)
want(c.get("k"), None)

c.set("quiet", b"1", noreply=True)
c.append("quiet", b"2", noreply=True)
want(c.get("quiet"), b"12")

want(c.set("short", b"x", expire=1, noreply=False), True)
deadline = time.monotonic() + 30
while c.get("short") is not None:
    if time.monotonic() > deadline:
        raise SystemExit("a value for one second is still there")
    time.sleep(0.05)

want("curr_items" in {k.decode() for k in c.stats()}, True)
want(len(c.version()) > 0, True)
c.quit()
print("ok")
