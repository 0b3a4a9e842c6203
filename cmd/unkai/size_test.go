package main

import "testing"

func TestSize(t *testing.T) {
	for text, want := range map[string]int64{
		"0": 0, "1": 1, "1000": 1000, "17b": 17,
		"512k": 512 << 10, "512K": 512 << 10, "512kb": 512 << 10, "512KiB": 512 << 10,
		"64MiB": 64 << 20, "64 MiB": 64 << 20, "64MB": 64 << 20, "1g": 1 << 30, "1GiB": 1 << 30, "2T": 2 << 40,
		"9223372036854775807": 1<<63 - 1,
	} {
		var s size
		if err := s.Set(text); err != nil || int64(s) != want {
			t.Errorf("%q: %d %v, want %d", text, s, err, want)
			continue
		}
		var again size
		if err := again.Set(s.String()); err != nil || again != s {
			t.Errorf("%q is written as %q, which is %d %v", text, s.String(), again, err)
		}
	}
	for _, text := range []string{
		"", "k", "MiB", "-1", "+1", "1.5g", "1x", "1kk", "1bk", "1mi", "1 2", "0x10", "1_000", "９",
		"9223372036854775808", "8388608T", "18446744073709551616k",
	} {
		s := size(5)
		if err := s.Set(text); err == nil {
			t.Errorf("%q is %d", text, s)
		} else if s != 5 {
			t.Errorf("%q is refused and changes the flag to %d", text, s)
		}
	}
	for n, want := range map[int64]string{0: "0", 1: "1", 1023: "1023", 1024: "1KiB", 1 << 20: "1MiB", 3 << 29: "1536MiB", 1<<20 + 1: "1048577"} {
		if got := (*size)(&n).String(); got != want {
			t.Errorf("%d is written as %q, want %q", n, got, want)
		}
	}
}

func FuzzSize(f *testing.F) {
	for _, text := range []string{"1", "64MiB", "512 k", "9223372036854775807", "8388608T", "b"} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		var s, again size
		if s.Set(text) != nil {
			return
		}
		if s < 0 {
			t.Fatalf("%q is %d", text, s)
		}
		if err := again.Set(s.String()); err != nil || again != s {
			t.Fatalf("%q is %d, written as %q, which is %d %v", text, s, s.String(), again, err)
		}
	})
}
