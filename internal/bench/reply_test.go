package bench

import (
	"fmt"
	"strings"
	"testing"
)

func testReplies(protocol string) *replies {
	l := Defaults()
	l.Protocol = protocol
	return &replies{requests: newRequests(&l), verify: true}
}

func TestReplies(t *testing.T) {
	text, meta := testReplies(Text), testReplies(Meta)
	value := func(id uint64, size int) string { return string(text.values.append(nil, id, size)) }
	const id = 7
	for _, c := range []struct {
		protocol string
		kind     kind
		reply    string
		want     outcome
	}{
		{Text, get, "END\r\n", miss},
		{Text, get, "VALUE key:00007 0 100\r\n" + value(id, 100) + "\r\nEND\r\n", hit},
		{Text, get, "VALUE key:00007 0 0\r\n\r\nEND\r\n", hit},
		{Text, get, "VALUE key:00007 4294967295 3\r\n" + value(id, 3) + "\r\nEND\r\n", hit},
		{Text, get, "VALUE key:00008 0 100\r\n" + value(id, 100) + "\r\nEND\r\n", wrong},
		{Text, get, "VALUE key:00007 0 100\r\n" + value(8, 100) + "\r\nEND\r\n", wrong},
		{Text, get, "SERVER_ERROR out of order\r\n", refused},
		{Text, set, "STORED\r\n", hit},
		{Text, set, "STORED\n", hit},
		{Text, set, "ERROR\r\n", refused},
		{Text, set, "CLIENT_ERROR bad data chunk\r\n", refused},
		{Meta, get, "EN\r\n", miss},
		{Meta, get, "VA 5000\r\n" + value(id, 5000) + "\r\n", hit},
		{Meta, get, "VA 100\r\n" + value(8, 100) + "\r\n", wrong},
		{Meta, set, "HD\r\n", hit},
	} {
		r := map[string]*replies{Text: text, Meta: meta}[c.protocol]
		// In pieces of every size, with the next reply behind it.
		for piece := 1; piece <= len(c.reply)+3; piece++ {
			if got, rest, err := feed(r, c.kind, id, c.reply+"NEXT", piece); err != nil || got != c.want || rest != "NEXT" {
				t.Fatalf("%s %v %.60q in pieces of %d: %v %q %v, want %v", c.protocol, c.kind, c.reply, piece, got, rest, err, c.want)
			}
		}
		if c.want == refused {
			if o, _, err := r.next(c.kind, id, []byte(c.reply)); o != refused || err != nil || string(r.text)+"\r\n" != c.reply {
				t.Errorf("the text of %q is %q", c.reply, r.text)
			}
		}
	}
}

// feed passes a reply in pieces and returns what came after it.
func feed(r *replies, k kind, id uint64, s string, piece int) (outcome, string, error) {
	for at := 0; at < len(s); at += piece {
		end := min(at+piece, len(s))
		o, rest, err := r.next(k, id, []byte(s[at:end]))
		if err != nil || o != unfinished {
			return o, string(rest) + s[end:], err
		}
	}
	return unfinished, "", nil
}

func TestRepliesThatCannotBe(t *testing.T) {
	for _, c := range []struct {
		kind        kind
		reply, want string
	}{
		{set, "NOT_STORED\r\n", "want the reply to a set"},
		{set, "END\r\n", "want the reply to a set"},
		{get, "STORED\r\n", "want the reply to a get"},
		{get, "\r\n", "want the reply to a get"},
		{get, "VALUE\r\n", "want a value"},
		{get, "VALUE key:00007 0\r\n", "want a value"},
		{get, "VALUE key:00007 0 x\r\n", "want the size of a value"},
		{get, "VALUE key:00007 0 \r\n", "want the size of a value"},
		{get, "VALUE key:00007 0 99999999999999999999\r\n", "want the size of a value"},
		{get, "VALUE key:00007 0 1\r\nxyEND\r\n", "want the end of a value"},
		{get, "VALUE key:00007 0 1\r\nx\r\nSTORED\r\n", "want END"},
		{get, strings.Repeat("x", maxLine+1), "longer than 2048 bytes"},
	} {
		_, _, err := feed(testReplies(Text), c.kind, 7, c.reply, 11)
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%.40q: %v, want %q", c.reply, err, c.want)
		}
	}
}

func FuzzReplies(f *testing.F) {
	f.Add([]byte("VALUE key:00007 0 1\r\nx\r\nEND\r\n"), true, 3)
	f.Add([]byte("SERVER_ERROR no\r\nSTORED\r\n"), false, 1)
	f.Fuzz(func(t *testing.T, b []byte, isGet bool, piece int) {
		k := set
		if isGet {
			k = get
		}
		if piece < 1 {
			piece = 1
		}
		// However a reply is cut, it means the same.
		whole := fmt.Sprint(feed(testReplies(Text), k, 7, string(b), len(b)+1))
		if cut := fmt.Sprint(feed(testReplies(Text), k, 7, string(b), piece)); cut != whole && !strings.Contains(cut+whole, "the server sent") {
			t.Errorf("in pieces of %d: %s; at once: %s", piece, cut, whole)
		}
	})
}
