package e2e

import (
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"
)

// Two servers give the same item different cas uniques. Before answers are
// compared, each unique becomes a name, {cas1}, {cas2}, in the order in which
// that server first showed them; and a name in a request becomes that server's
// unique again.

// names are the uniques that one server has shown.
type names struct {
	ids     map[unique]int
	numbers []uint64
	latest  map[string][]int // ids by key, the newest last
}

// unique is a cas unique of a key: two keys may have the same number.
type unique struct {
	key    string
	number uint64
}

func newNames() *names {
	return &names{ids: map[unique]int{}, latest: map[string][]int{}}
}

// name is the name of a unique. 0 is none and stays.
func (n *names) name(key, number string) string {
	v, err := strconv.ParseUint(number, 10, 64)
	if err != nil || v == 0 || strconv.FormatUint(v, 10) != number {
		return number
	}
	u := unique{key, v}
	id, ok := n.ids[u]
	if !ok {
		n.numbers = append(n.numbers, v)
		id = len(n.numbers)
		n.ids[u] = id
		n.latest[key] = append(n.latest[key], id)
	}
	return "{cas" + strconv.Itoa(id) + "}"
}

// number is the unique with that id.
func (n *names) number(id int) (uint64, bool) {
	if id < 1 || id > len(n.numbers) {
		return 0, false
	}
	return n.numbers[id-1], true
}

// recent is the id of the unique of a key that is back steps before its
// newest, 0 if there is none.
func (n *names) recent(key string, back int) int {
	ids := n.latest[key]
	if back >= len(ids) {
		return 0
	}
	return ids[len(ids)-1-back]
}

// canonical is an answer as text that two servers must agree on, a line for a
// line and a line for a value. key is what the request was about.
func (n *names) canonical(key string, u unit) []string {
	f := strings.Split(u.line, " ")
	switch f[0] {
	case "VALUE":
		if len(f) == 5 {
			f[4] = n.name(f[1], f[4])
		}
	case "HD", "VA", "NF", "NS", "EX", "EN":
		for i, flag := range f {
			if i > 0 && len(flag) > 1 && flag[0] == 'c' {
				f[i] = "c" + n.name(key, flag[1:])
			}
		}
	case "ME":
		for i, pair := range f {
			name, value, ok := strings.Cut(pair, "=")
			switch {
			case !ok || i < 2:
			case name == "cas":
				f[i] = "cas=" + n.name(f[1], value)
			case name == "cls" || name == "size":
				// What an item costs is the server's own affair.
				f[i] = name + "=0"
			}
		}
	}
	for i := range f {
		f[i] = encodeName(f[i])
	}
	lines := []string{strings.Join(f, " ")}
	if u.value != nil {
		v, ok := strings.CutSuffix(string(u.value), "\r\n")
		if !ok {
			v += "{no end of line}"
		}
		lines = append(lines, encode(v))
	}
	return lines
}

// encodeName is encode, save that names of uniques stay as they are.
func encodeName(s string) string {
	if i := strings.Index(s, "{cas"); i >= 0 && strings.HasSuffix(s, "}") {
		return encode(s[:i]) + s[i:]
	}
	return encode(s)
}

// encode is s as one readable line: \xNN where a byte is not printable, and
// {x*1000} for a long run of one byte.
func encode(s string) string {
	var b strings.Builder
	for i := 0; i < len(s); {
		run := 1
		for i+run < len(s) && s[i+run] == s[i] {
			run++
		}
		c := encodeByte(s[i], i+run == len(s))
		if run >= 20 {
			fmt.Fprintf(&b, "{%s*%d}", c, run)
		} else {
			b.WriteString(strings.Repeat(encodeByte(s[i], false), run-1) + c)
		}
		i += run
	}
	return b.String()
}

func encodeByte(c byte, last bool) string {
	switch {
	case c == '\r':
		return `\r`
	case c == '\n':
		return `\n`
	case c == '\\':
		return `\\`
	case c < ' ', c > '~', c == '{', c == ' ' && last:
		return fmt.Sprintf(`\x%02x`, c)
	}
	return string(rune(c))
}

var macro = regexp.MustCompile(`\\(?:r|n|\\|x[0-9a-f]{2})|\{(?:(\\x[0-9a-f]{2}|\\[rn\\]|.)\*(\d+)|cas(\d+))\}`)

// decode is what a server is to be sent for a line: the opposite of encode,
// and {cas1} becomes that server's unique.
func (n *names) decode(t testing.TB, s string) string {
	return macro.ReplaceAllStringFunc(s, func(m string) string {
		switch m {
		case `\r`:
			return "\r"
		case `\n`:
			return "\n"
		case `\\`:
			return `\`
		}
		sub := macro.FindStringSubmatch(m)
		switch {
		case m[0] == '\\':
			v, err := strconv.ParseUint(m[2:], 16, 8)
			if err != nil {
				t.Fatalf("%q: %v", m, err)
			}
			return string([]byte{byte(v)})
		case sub[3] != "":
			id, _ := strconv.Atoi(sub[3])
			number, ok := n.number(id)
			if !ok {
				t.Errorf("%s: only %d uniques were seen so far", m, len(n.numbers))
			}
			return strconv.FormatUint(number, 10)
		default:
			count, _ := strconv.Atoi(sub[2])
			return strings.Repeat(n.decode(t, sub[1]), count)
		}
	})
}

// clockSlack is how far two servers' whole seconds may lie apart.
const clockSlack = 2

// same compares canonical lines. Seconds that remain (t, exp) or have passed
// (l, la) may differ a little, and by what has passed while both were asked: a machine
// that is busy may stand still between two requests. Everything else is exact.
func same(a, b string, passed time.Duration) bool {
	if a == b {
		return true
	}
	f, g := strings.Split(a, " "), strings.Split(b, " ")
	if len(f) != len(g) || f[0] != g[0] {
		return false
	}
	switch f[0] {
	case "HD", "VA", "EN", "NF", "NS", "EX", "ME":
	default:
		return false
	}
	for i := range f {
		if f[i] != g[i] && !sameSeconds(f[i], g[i], clockSlack+int(passed/time.Second)) {
			return false
		}
	}
	return true
}

var seconds = regexp.MustCompile(`^(t|l|exp=-?|la=)(\d+)$`)

func sameSeconds(a, b string, slack int) bool {
	x, y := seconds.FindStringSubmatch(a), seconds.FindStringSubmatch(b)
	if x == nil || y == nil || x[1] != y[1] {
		return false
	}
	m, n := remaining(x[2]), remaining(y[2])
	return max(m-n, n-m) <= slack
}

// remaining is a number of seconds. What T has just put into the past, memcached
// says in 32 bits, as a number that wrapped; it means 0.
func remaining(s string) int {
	n, err := strconv.Atoi(s)
	if err != nil || n > 1<<32-1e6 {
		return 0
	}
	return n
}

// difference is an answer in which unkai may differ from memcached, because
// docs/PROTOCOL.md says so.
type difference struct {
	why             string
	request         *regexp.Regexp
	theirs, instead *regexp.Regexp
}

// differences are all there are.
var differences = []difference{
	{
		why:     "each server has its own version",
		request: regexp.MustCompile(`^version\b`),
		theirs:  regexp.MustCompile(`^VERSION \S+$`),
		instead: regexp.MustCompile(`^VERSION \S+$`),
	},
}

// agree compares the answers to one request, in a conversation that has lasted for some
// time.
func agree(request string, theirs, ours []string, passed time.Duration) bool {
	if len(theirs) == len(ours) {
		equal := true
		for i := range theirs {
			equal = equal && same(theirs[i], ours[i], passed)
		}
		if equal {
			return true
		}
	}
	a, b := strings.Join(theirs, "\n"), strings.Join(ours, "\n")
	for _, d := range differences {
		if d.request.MatchString(request) && d.theirs.MatchString(a) && d.instead.MatchString(b) {
			return true
		}
	}
	return false
}

func TestEncodingGoesBothWays(t *testing.T) {
	n := newNames()
	for _, s := range []string{"", "plain", "a b ", "{", "\\x41", "\x00\r\n\xff", strings.Repeat("{", 40), strings.Repeat(" ", 30), strings.Repeat("\\", 21)} {
		if got := n.decode(t, encode(s)); got != s {
			t.Errorf("%q became %q by %q", s, got, encode(s))
		}
	}
}

func TestUniquesAreComparedByName(t *testing.T) {
	a, b := newNames(), newNames()
	first := a.canonical("k", unit{line: "VALUE k 0 1 17", value: []byte("x\r\n")})
	second := b.canonical("k", unit{line: "VALUE k 0 1 4711", value: []byte("x\r\n")})
	if !agree("gets k", first, second, 0) {
		t.Errorf("%q and %q differ", first, second)
	}
	again := a.canonical("k", unit{line: "HD c17"})
	other := b.canonical("k", unit{line: "HD c4712"})
	if agree("mg k c", again, other, 0) {
		t.Errorf("%q and %q agree, although only the second unique changed", again, other)
	}
	for _, c := range []struct {
		theirs, ours string
		passed       time.Duration
		agree        bool
	}{
		{"HD t10", "HD t-1", time.Hour, false}, {"HD t10", "HD t9", 0, true}, {"HD t10", "HD t7", 0, false},
		{"HD t10", "HD t7", time.Second, true}, {"HD t10", "HD f7", time.Hour, false},
	} {
		if agree("mg k t", []string{c.theirs}, []string{c.ours}, c.passed) != c.agree {
			t.Errorf("seconds are compared wrongly: %+v", c)
		}
	}
}
