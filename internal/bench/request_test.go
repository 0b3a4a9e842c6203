package bench

import (
	"strconv"
	"testing"
)

func TestRequests(t *testing.T) {
	for _, c := range []struct {
		protocol, prefix string
		keys             int
		id               uint64
		get, set         string // the set without its value
	}{
		{Text, "key:", 100_000, 7, "get key:00007\r\n", "set key:00007 0 0 100\r\n"},
		{Text, "key:", 100_000, 99_999, "get key:99999\r\n", "set key:99999 0 0 100\r\n"},
		{Text, "key:", 100_001, 99_999, "get key:099999\r\n", "set key:099999 0 0 100\r\n"},
		{Text, "", 1, 0, "get 0\r\n", "set 0 0 0 100\r\n"},
		{Meta, "key:", 100_000, 7, "mg key:00007 v\r\n", "ms key:00007 100\r\n"},
		{Meta, "", 11, 10, "mg 10 v\r\n", "ms 10 100\r\n"},
	} {
		l := Defaults()
		l.Protocol, l.Prefix, l.Keys = c.protocol, c.prefix, c.keys
		r := newRequests(&l)
		if got := string(r.appendGet([]byte("…"), c.id)); got != "…"+c.get {
			t.Errorf("get: got %q, want %q", got, c.get)
		}
		want := c.set + string(r.values.append(nil, c.id, 100)) + "\r\n"
		if got := string(r.appendSet([]byte("…"), c.id, 100)); got != "…"+want {
			t.Errorf("set: got %q, want %q", got, want)
		}
	}
}

func TestIsKey(t *testing.T) {
	l := Defaults()
	for _, protocol := range []string{Text, Meta} {
		l.Protocol = protocol
		r := newRequests(&l)
		for _, c := range []struct {
			key  string
			want bool
		}{
			{"key:00042", true}, {"key:00043", false}, {"kez:00042", false},
			{"key:0042", false}, {"key:000042", false}, {"key:10042", false}, {"", false},
		} {
			if got := r.isKey([]byte(c.key), 42); got != c.want {
				t.Errorf("%s: isKey(%q) is %v", protocol, c.key, got)
			}
		}
	}
}

func TestPutDigits(t *testing.T) {
	b := make([]byte, 9)
	for _, id := range []uint64{0, 1, 10, 123_456_789, 999_999_999} {
		putDigits(b, id)
		if n, err := strconv.ParseUint(string(b), 10, 64); err != nil || n != id {
			t.Errorf("%d became %q", id, b)
		}
	}
}
