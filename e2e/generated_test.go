package e2e

import (
	"encoding/base64"
	"fmt"
	"math/rand/v2"
	"strconv"
	"strings"
	"testing"
	"time"
)

// Generated conversations: a seed makes a sequence of commands on a few keys,
// two servers get the same sequence in the same batches, and every answer is
// compared. What differs is shrunk to the few commands that matter.

// command is one generated request. Its text holds places that are filled in
// when it is sent: so a sequence can be played again on other keys, and on
// servers whose uniques differ.
type command struct {
	key   int    // what it is about, and whose uniques it names
	text  string // with places
	first bool   // begins a batch
}

// The places in a command's text: a byte, then a digit.
const (
	placeKey    = '\x11' // key number
	placeBase64 = '\x12' // the same in base64
	placeUnique = '\x13' // the command's key's unique, so many before the newest
)

// keyNames of a sequence; a prefix makes them new ones.
var keyNames = []string{"a", "b", "c", "long", "bin"}

const binKey = 4 // can be said in base64 only

func keyName(prefix string, i int) string {
	switch name := keyNames[i]; name {
	case "long":
		return prefix + strings.Repeat("l", 250-len(prefix))
	case "bin":
		return prefix + "\x00 \xff"
	default:
		return prefix + name
	}
}

// fill is the command as it is sent to the server whose uniques are n.
func (c command) fill(prefix string, n *names) string {
	var b strings.Builder
	for i := 0; i < len(c.text); i++ {
		switch ch := c.text[i]; ch {
		case placeKey:
			i++
			b.WriteString(keyName(prefix, int(c.text[i]-'0')))
		case placeBase64:
			i++
			b.WriteString(base64.StdEncoding.EncodeToString([]byte(keyName(prefix, int(c.text[i]-'0')))))
		case placeUnique:
			i++
			number, ok := n.number(n.recent(keyName(prefix, c.key), int(c.text[i]-'0')))
			if !ok {
				number = 1<<64 - 1
			}
			b.WriteString(strconv.FormatUint(number, 10))
		default:
			b.WriteByte(ch)
		}
	}
	return b.String()
}

// generator makes commands.
type generator struct{ *rand.Rand }

func pick[T any](g generator, from ...T) T { return from[g.IntN(len(from))] }

// one in n.
func (g generator) one(n int) bool { return g.IntN(n) == 0 }

func (g generator) sequence(n int) []command {
	commands := make([]command, n)
	batch := 1 + g.IntN(40)
	for i := range commands {
		c := g.command()
		// memcached pads a shorter number only while no answer that shows the
		// item still waits to be sent, so arithmetic begins a batch.
		verb, _, _ := strings.Cut(c.text, " ")
		c.first = verb == "incr" || verb == "decr" || verb == "ma"
		if batch--; batch == 0 {
			c.first, batch = true, 1+g.IntN(40)
		}
		commands[i] = c
	}
	return commands
}

func (g generator) command() command {
	key := g.IntN(4)
	name := string(placeKey) + strconv.Itoa(key)
	switch n := g.IntN(100); {
	case n < 12:
		return command{key: key, text: g.get(name)}
	case n < 36:
		return command{key: key, text: g.store(name)}
	case n < 44:
		return command{key: key, text: pick(g, "incr ", "decr ") + name + " " + g.delta() + g.noreply() + "\r\n"}
	case n < 48:
		return command{key: key, text: "touch " + name + " " + g.expiry() + g.noreply() + "\r\n"}
	case n < 53:
		return command{key: key, text: "delete " + name + pick(g, "", "", "", " 0") + g.noreply() + "\r\n"}
	case n < 54:
		return command{text: g.other()}
	case n < 56:
		return command{key: key, text: g.wrong(name)}
	default:
		return g.meta()
	}
}

func (g generator) noreply() string { return pick(g, "", "", "", "", "", "", " noreply") }

func (g generator) get(name string) string {
	verb := pick(g, "get ", "gets ", "gets ", "gat ", "gats ")
	if verb[1] == 'a' {
		verb += g.expiry() + " "
	}
	for range g.IntN(4) {
		name += " " + string(placeKey) + strconv.Itoa(g.IntN(4))
	}
	return verb + name + "\r\n"
}

func (g generator) store(name string) string {
	verb := pick(g, "set", "set", "set", "add", "replace", "append", "prepend", "cas")
	value := g.value()
	tail := ""
	if verb == "cas" {
		tail = " " + g.unique()
	}
	return fmt.Sprintf("%s %s %s %s %d%s%s\r\n%s\r\n", verb, name, g.flags(), g.expiry(), len(value), tail, g.noreply(), value)
}

// other commands are about no key.
func (g generator) other() string {
	return pick(g, "mn\r\n", "verbosity 1\r\n", "verbosity 1 noreply\r\n", "flush_all\r\n", "flush_all noreply\r\n", "flush_all 0\r\n", "version\r\n")
}

func (g generator) flags() string { return pick(g, "0", "0", "1", "65535", "4294967295") }

// expiry keeps away from the present second: 0, past, or far ahead.
func (g generator) expiry() string {
	return pick(g, "0", "0", "0", "0", "0", "1000", "1000", "5000", "2000000000", "-1", "2592001")
}

func (g generator) delta() string {
	// No numbers of 2^63 and above: of such an item memcached looks for a minus sign
	// far behind its end, in whatever lies there. The transcripts have some.
	return pick(g, "0", "1", "1", "1", "9", "10", "1000", "1000000000000", "x", "-1")
}

func (g generator) unique() string {
	return pick(g, string(placeUnique)+"0", string(placeUnique)+"0", string(placeUnique)+"0", string(placeUnique)+"1",
		string(placeUnique)+"3", "18446744073709551615")
}

func (g generator) value() string {
	switch g.IntN(12) {
	case 0:
		return ""
	case 1, 2, 3, 4, 5:
		return pick(g, "0", "1", "9", "10", "99", "100", "18446744073709551616", "007", "5 ", "42")
	case 6:
		return pick(g, " 5", "5x", "1 2", "+3", "END\r\n", "\x00\xff", "VALUE a 0 1\r\nx")
	case 7:
		b := make([]byte, g.IntN(40))
		for i := range b {
			switch b[i] = byte(g.IntN(256)); b[i] {
			case placeKey, placeBase64, placeUnique:
				b[i] = 0 // these have a meaning here
			case '-':
				// memcached calls a number above 2^63 none if it finds a minus
				// anywhere behind it in its memory. No value has one.
				b[i] = '_'
			}
		}
		if len(b) > 0 {
			// Asked to count up blanks, memcached looks for digits in what lies
			// behind them in its memory.
			b[0] = 'b'
		}
		return string(b)
	case 8:
		return strings.Repeat(pick(g, "x", "y", "1"), g.IntN(2000))
	case 9:
		if g.one(20) {
			return strings.Repeat("big", g.IntN(30000))
		}
		return "w"
	default:
		return strings.Repeat(pick(g, "v", "w"), g.IntN(30))
	}
}

// meta is one of mg ms md ma me with any of its flags in any order.
func (g generator) meta() command {
	key := g.IntN(len(keyNames))
	c := command{key: key}
	name := string(placeKey) + strconv.Itoa(key)
	var flags []string
	if key == binKey {
		name = string(placeBase64) + strconv.Itoa(key)
		flags = append(flags, "b")
	}
	may := func(n int, flag ...string) {
		if g.one(n) {
			flags = append(flags, pick(g, flag...))
		}
	}
	if key != binKey { // see testdata/differs/keys.txt
		may(3, "k")
	}
	may(4, "Oabc", "O1", "O0123456789012345678901234567890")
	may(8, "q")
	verb, data := pick(g, "mg", "mg", "ms", "ms", "md", "ma", "me"), ""
	switch verb {
	case "mg":
		may(2, "v")
		may(3, "t")
		may(3, "s")
		may(3, "f")
		may(3, "c")
		may(4, "h")
		may(6, "l")
		may(6, "u")
		if key != binKey { // see testdata/differs/keys.txt
			may(6, "N0", "N1000", "N-1")
		}
		may(5, "R30", "R2000", "R-1")
		may(6, "T"+g.expiry())
	case "ms":
		value := g.value()
		data = value + "\r\n"
		name += " " + strconv.Itoa(len(value))
		may(3, "c")
		may(4, "F"+g.flags())
		may(4, "T"+g.expiry())
		may(3, "C"+g.unique())
		may(4, "I")
		may(3, "ME", "MA", "MP", "MR", "MS", "MS")
	case "md":
		may(3, "C"+g.unique())
		may(2, "I")
		may(4, "T"+g.expiry())
	case "ma":
		may(2, "v")
		may(4, "t")
		may(3, "c")
		if key != binKey {
			may(4, "N0", "N1000", "N-1")
		}
		may(4, "J0", "J13", "J1000000000000")
		may(3, "D"+pick(g, "0", "1", "10", "1000000000000"))
		// No T: see testdata/differs/arithmetic_expiry.txt.
		may(3, "MI", "M+", "MD", "M-")
		may(4, "C"+g.unique())
	case "me":
		flags = flags[:0]
		if key == binKey { // see testdata/differs/keys.txt
			return command{text: "mn\r\n"}
		}
	}
	g.Shuffle(len(flags), func(i, j int) { flags[i], flags[j] = flags[j], flags[i] })
	c.text = strings.Join(append([]string{verb, name}, flags...), " ") + "\r\n" + data
	return c
}

// wrong is what a client should not send.
func (g generator) wrong(name string) string {
	tooLong := strings.Repeat("z", 251)
	return pick(g,
		"nonsense\r\n", "\r\n", "get\r\n", "GET "+name+"\r\n", "set "+name+" 0 0\r\n",
		"set "+name+" 0 0 3\r\nfour\r\n", "set "+name+" x 0 1\r\nv\r\n", "set "+name+" 0 0 -1\r\n",
		// Not get with a key that is too long: memcached then drops the answers to
		// what was pipelined before it.
		"add "+tooLong+" 0 0 1\r\nv\r\n", "cas "+name+" 0 0 1\r\n",
		"incr "+name+"\r\n", "touch "+name+"\r\n", "touch "+name+" x\r\n", "gat x "+name+"\r\n", "delete "+name+" 5\r\n",
		"mg\r\n", "mg "+tooLong+"\r\n", "mg "+name+" v v\r\n", "mg "+name+" !\r\n", "mg "+name+" Tx\r\n",
		"ms "+name+"\r\n", "ms "+name+" x\r\n", "ms "+name+" 1 MX\r\nv\r\n", "ms "+name+" 1 c c\r\nv\r\n",
		"ms "+name+" 1 Cx\r\nv\r\n", "ms "+name+" 1 T\r\nv\r\n", "ms "+name+" 1\r\ntwo\r\n", "ms !!!! 1 b\r\nv\r\n",
		"md "+name+" q q\r\n", "md "+name+" Cx\r\n", "ma "+name+" Dx\r\n", "ma "+name+" MX\r\n", "ma "+name+" v v\r\n", "me\r\n",
		"mg "+name+" O{too long to be copied back}\r\n",
	)
}

// speaker is one of the two servers, on one connection.
type speaker struct {
	process *process
	wire    *wire
	names   *names
}

// say sends a batch and returns the canonical answer to each command.
func (s *speaker) say(prefix string, batch []command) ([][]string, error) {
	answers := make([][]string, len(batch))
	if s.wire == nil {
		w, err := dial(s.process)
		if err != nil {
			return answers, err
		}
		s.wire = w
	}
	w := s.wire
	if err := w.SetDeadline(time.Now().Add(patience)); err != nil {
		return answers, err
	}
	var request []byte
	first := w.marks + 1
	for _, c := range batch {
		request = w.appendMark(append(request, c.fill(prefix, s.names)...))
	}
	request = w.appendMark(request)
	// Answers are read meanwhile: a server may stop reading until they are.
	sent := make(chan error, 1)
	go func() {
		_, err := w.Write(request)
		sent <- err
	}()
	var err error
	for i, c := range batch {
		var units []unit
		if units, err = w.readToMark(first + i); err != nil {
			break
		}
		for _, u := range units {
			answers[i] = append(answers[i], s.names.canonical(keyName(prefix, c.key), u)...)
		}
	}
	if err == nil {
		_, err = w.readToMark(w.marks)
	}
	if err != nil {
		w.Close()
		s.wire = nil
	}
	if sendErr := <-sent; err == nil {
		err = sendErr
	}
	return answers, err
}

// duel plays sequences to two servers.
type duel struct {
	theirs, ours speaker
	played       int
}

// mismatch is where two servers first disagreed.
type mismatch struct {
	at           int // the command
	theirs, ours []string
	theirErr     error
	ourErr       error
}

// play plays a sequence on keys of its own, and returns the first mismatch.
func (d *duel) play(commands []command) *mismatch {
	d.played++
	prefix := fmt.Sprintf("%d:", d.played)
	d.theirs.names, d.ours.names = newNames(), newNames()
	began := time.Now()
	for from := 0; from < len(commands); {
		to := from + 1
		for to < len(commands) && !commands[to].first {
			to++
		}
		batch := commands[from:to]
		theirs, theirErr := d.theirs.say(prefix, batch)
		ours, ourErr := d.ours.say(prefix, batch)
		for i, c := range batch {
			failed := i == len(batch)-1 && (theirErr != nil || ourErr != nil)
			if failed || !agree(c.fill(prefix, d.theirs.names), theirs[i], ours[i], time.Since(began)) {
				return &mismatch{from + i, theirs[i], ours[i], theirErr, ourErr}
			}
		}
		from = to
	}
	return nil
}

// shrink leaves out what a mismatch does not need.
func (d *duel) shrink(commands []command, m *mismatch) ([]command, *mismatch) {
	commands = commands[:m.at+1]
	deadline := time.Now().Add(30 * time.Second)
	try := func(fewer []command) bool {
		if time.Now().After(deadline) || len(fewer) == 0 {
			return false
		}
		found := d.play(fewer)
		if found != nil {
			commands, m = fewer[:found.at+1], found
		}
		return found != nil
	}
	single := make([]command, len(commands))
	for i, c := range commands {
		c.first = true
		single[i] = c
	}
	try(single)
	for size := len(commands) / 2; size > 0; size /= 2 {
		for from := 0; from+size <= len(commands); {
			fewer := append(append([]command(nil), commands[:from]...), commands[from+size:]...)
			if !try(fewer) {
				from += size
			}
		}
	}
	return commands, m
}

// describe is a mismatch for a person; a dash is where a batch begins.
func (d *duel) describe(commands []command, m *mismatch) string {
	var b strings.Builder
	const most = 40
	if n := len(commands) - most; n > 0 {
		fmt.Fprintf(&b, "  (%d commands that could not be left out)\n", n)
		commands = commands[n:]
	}
	for _, c := range commands {
		mark := "  "
		if c.first {
			mark = "- "
		}
		fmt.Fprintf(&b, "  %s> %s\n", mark, encode(c.fill("", newNames())))
	}
	for _, side := range []struct {
		name string
		got  []string
		err  error
	}{{d.theirs.process.name, m.theirs, m.theirErr}, {d.ours.process.name, m.ours, m.ourErr}} {
		fmt.Fprintf(&b, "%s: < %s", side.name, strings.Join(side.got, "\n     < "))
		if side.err != nil {
			fmt.Fprintf(&b, " {%v}", side.err)
		}
		b.WriteByte('\n')
	}
	return b.String()
}

// sequenceLength is how many commands share their keys.
const sequenceLength = 1000

// contest plays n generated commands. Every mismatch is reported once shrunk,
// and a few are enough.
func contest(t *testing.T, theirs, ours *process, seed uint64, n int) int {
	d := &duel{theirs: speaker{process: theirs}, ours: speaker{process: ours}}
	defer func() {
		for _, s := range []speaker{d.theirs, d.ours} {
			if s.wire != nil {
				s.wire.Close()
			}
		}
	}()
	found := 0
	for sequence := 0; sequence*sequenceLength < n && found < 5; sequence++ {
		commands := generator{random(seed, sequence)}.sequence(sequenceLength)
		if m := d.play(commands); m != nil {
			found++
			few, m := d.shrink(commands, m)
			t.Logf("seed %d, sequence %d, answers differ:\n%s", seed, sequence, d.describe(few, m))
		}
	}
	return found
}

// generatedCommands is how many commands a run compares for each engine.
func generatedCommands() int {
	n := envNumber("UNKAI_E2E_COMMANDS", 200_000)
	if testing.Short() {
		n /= 10
	}
	return int(n)
}

func TestGenerated(t *testing.T) {
	for _, run := range []struct {
		name, store string
		options     []string
		share       int
	}{
		{"memory", "memory", nil, 1},
		{"disk", "disk", []string{"--sync", "interval"}, 1},
		{"disk-sync-always", "disk", []string{"--sync", "always"}, 10},
	} {
		t.Run(run.name, func(t *testing.T) {
			theirs := startMemcached(t)
			ours := newServe(t, run.store, run.options...).start(t)
			if n := contest(t, theirs, ours, seed(t), generatedCommands()/run.share); n > 0 {
				t.Errorf("%d mismatches", n)
			}
		})
	}
}

// memcached agrees with itself: the comparison raises no false alarm.
func TestGeneratedAgreesWithItself(t *testing.T) {
	theirs, ours := startMemcached(t), startMemcached(t)
	// Uniques differ from the start.
	connect(t, ours).want(t, "set x 0 0 1\r\nx\r\nset x 0 0 1\r\nx\r\n", "STORED\nSTORED")
	if n := contest(t, theirs, ours, seed(t), generatedCommands()/4); n > 0 {
		t.Errorf("%d mismatches", n)
	}
}

// A memcached without uniques is found out, by a few commands.
func TestGeneratedFindsADifference(t *testing.T) {
	theirs, ours := startMemcached(t), startMemcached(t, "-C")
	d := &duel{theirs: speaker{process: theirs}, ours: speaker{process: ours}}
	commands := generator{random(seed(t), 0)}.sequence(sequenceLength)
	m := d.play(commands)
	if m == nil {
		t.Fatal("nothing found")
	}
	few, m := d.shrink(commands, m)
	if len(few) > 6 {
		t.Errorf("shrunk to %d commands only:\n%s", len(few), d.describe(few, m))
	}
}
