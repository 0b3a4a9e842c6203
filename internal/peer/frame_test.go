package peer

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"strings"
	"testing"

	"unkai"
)

func TestFramesComeThrough(t *testing.T) {
	var b []byte
	b = appendFrame(b, frameQuestion, 7, Control, []byte("hello "), []byte("you"))
	b = appendFrame(b, frameAnswer, 8, 0, []byte(strings.Repeat("x", 3*readStep+5)))
	b = appendFrame(b, framePing, 9, 0)
	r := bufio.NewReader(bytes.NewReader(b))
	for i, want := range []frame{{frameQuestion, Control, 7, 9}, {frameAnswer, 0, 8, 3*readStep + 5}, {framePing, 0, 9, 0}} {
		got, err := readFrame(r)
		if err != nil || got != want {
			t.Fatalf("%d: %+v, %v, want %+v", i, got, err, want)
		}
		if body, err := readBody(r, nil, got.body); err != nil || len(body) != want.body {
			t.Fatalf("%d: %d bytes, %v", i, len(body), err)
		}
	}
	if _, err := readFrame(r); !errors.Is(err, io.EOF) {
		t.Error(err)
	}
}

func TestIntroductionsComeThrough(t *testing.T) {
	want := intro{oldest: 1, newest: 3, cluster: 5, self: 6, wanted: 7, refusal: "no"}
	if got, err := readIntro(bytes.NewReader(want.encode())); err != nil || got != want {
		t.Errorf("%+v, %v", got, err)
	}
	for name, c := range map[string]struct {
		i    intro
		good bool
	}{
		"newer, but speaks ours": {intro{oldest: 1, newest: 9, self: 2}, true},
		"too new":                {intro{oldest: 2, newest: 9, self: 2}, false},
		"nobody":                 {intro{oldest: 1, newest: 1}, false},
	} {
		if err := c.i.check(unkai.NodeID(1), 4); (err == nil) != c.good {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// What arrives must not make memory be set aside that was only announced.
func TestABodyGrowsWithWhatArrives(t *testing.T) {
	r := bufio.NewReader(strings.NewReader("only this"))
	b, err := readBody(r, nil, maxFrame)
	if err == nil || cap(b) > 2*readStep {
		t.Errorf("%d bytes set aside, %v", cap(b), err)
	}
}

func FuzzFrames(f *testing.F) {
	f.Add(appendFrame(nil, frameQuestion, 7, Control, []byte("hello")))
	f.Add(appendFrame(nil, framePong, 7, 0))
	i := intro{oldest: 1, newest: 1, cluster: 5, self: 6, refusal: "no"}
	f.Add(i.encode())
	f.Fuzz(func(_ *testing.T, b []byte) {
		_, _ = readIntro(bytes.NewReader(b))
		r := bufio.NewReader(bytes.NewReader(b))
		for {
			fr, err := readFrame(r)
			if err != nil {
				return
			}
			if _, err := readBody(r, nil, fr.body); err != nil {
				return
			}
		}
	})
}
