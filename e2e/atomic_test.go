package e2e

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"testing"
)

// together runs work on n connections at once and waits for all.
func together(t *testing.T, p *process, n int, work func(i int, w *wire) error) {
	t.Helper()
	wires := make([]*wire, n)
	for i := range wires {
		wires[i] = connect(t, p)
	}
	errs := make(chan error, n)
	for i, w := range wires {
		go func() { errs <- work(i, w) }()
	}
	var err error
	for range n {
		err = errors.Join(err, <-errs)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// reply sends a request and returns the only line of its answer.
func (w *wire) reply(format string, args ...any) (string, error) {
	units, err := w.exchange(fmt.Appendf(nil, format, args...))
	if err != nil {
		return "", err
	}
	if len(units) != 1 {
		return "", fmt.Errorf("%q was answered with %q", format, units)
	}
	return units[0].String(), nil
}

// unexpected is the error of an answer that must not be.
func unexpected(reply string) error { return fmt.Errorf("unexpected answer %q", reply) }

const (
	crowd = 64 // connections
	times = 50 // that each does something
)

// incr from many connections loses nothing and repeats nothing.
func TestIncrementsAreExact(t *testing.T) {
	onEveryStore(t, func(t *testing.T, store string) {
		p := newServe(t, store).start(t)
		w := connect(t, p)
		w.want(t, "set n 0 0 1\r\n0\r\n", "STORED")
		results := make(chan string, crowd*times)
		together(t, p, crowd, func(i int, w *wire) error {
			for j := range times {
				request := "incr n 1\r\n"
				if (i+j)%2 == 0 {
					request = "ma n v\r\n"
				}
				r, err := w.reply("%s", request)
				if err != nil {
					return err
				}
				if _, number, ok := strings.Cut(r, "\n"); ok {
					r = number
				}
				results <- r
			}
			return nil
		})
		close(results)
		seen := map[string]bool{}
		for r := range results {
			if seen[r] {
				t.Errorf("two clients were told %q", r)
			}
			seen[r] = true
		}
		w.want(t, "get n\r\n", fmt.Sprintf("VALUE n 0 %d\n%d\nEND", len(strconv.Itoa(crowd*times)), crowd*times))
	})
}

// A loop of gets and cas on one key from many connections counts exactly.
func TestCASLoopIsExact(t *testing.T) {
	onEveryStore(t, func(t *testing.T, store string) {
		p := newServe(t, store).start(t)
		w := connect(t, p)
		w.want(t, "set n 0 0 1\r\n0\r\n", "STORED")
		const rounds = 10
		together(t, p, crowd, func(_ int, w *wire) error {
			for done := 0; done < rounds; {
				r, err := w.reply("mg n v c\r\n")
				if err != nil {
					return err
				}
				head, value, _ := strings.Cut(r, "\n")
				unique := head[strings.LastIndex(head, "c")+1:]
				n, err := strconv.Atoi(value)
				if err != nil {
					return err
				}
				next := strconv.Itoa(n + 1)
				r, err = w.reply("cas n 0 0 %d %s\r\n%s\r\n", len(next), unique, next)
				switch {
				case err != nil:
					return err
				case r == "STORED":
					done++
				case r != "EXISTS":
					return unexpected(r)
				}
			}
			return nil
		})
		w.want(t, "mg n v\r\n", fmt.Sprintf("VA 3\n%d", crowd*rounds))
	})
}

// Without anybody else on the key, cas never answers EXISTS, however busy the
// server is.
func TestCASIsNeverFalse(t *testing.T) {
	onEveryStore(t, func(t *testing.T, store string) {
		p := newServe(t, store).start(t)
		together(t, p, crowd, func(i int, w *wire) error {
			r, err := w.reply("ms k%d 1 c\r\n0\r\n", i)
			for range times {
				if err != nil {
					return err
				}
				unique, ok := strings.CutPrefix(r, "HD c")
				if !ok {
					return unexpected(r)
				}
				r, err = w.reply("ms k%d 1 C%s c\r\n1\r\n", i, unique)
			}
			return err
		})
	})
}

// Of many adds one wins, of many deletes one, of many vivifying mg one, again
// and again.
func TestOneWins(t *testing.T) {
	onEveryStore(t, func(t *testing.T, store string) {
		p := newServe(t, store).start(t)
		for _, race := range []struct{ name, prepare, request, win, lose string }{
			{"add", "", "add KEY 0 0 1\r\nx\r\n", "STORED", "NOT_STORED"},
			{"ms E", "", "ms KEY 1 ME\r\nx\r\n", "HD", "NS"},
			{"delete", "set KEY 0 0 1\r\nx\r\n", "delete KEY\r\n", "DELETED", "NOT_FOUND"},
			{"md", "set KEY 0 0 1\r\nx\r\n", "md KEY\r\n", "HD", "NF"},
			{"mg N", "", "mg KEY N100 s\r\n", "HD s0 W", "HD s0 Z"},
			{"mg of a stale item", "set KEY 0 0 1\r\nx\r\nmd KEY I\r\n", "mg KEY s\r\n", "HD s1 X W", "HD s1 Z X"},
		} {
			t.Run(race.name, func(t *testing.T) {
				const rounds = 10
				w := connect(t, p)
				key := func(round int) string { return fmt.Sprintf("%s-%d", strings.ReplaceAll(race.name, " ", "-"), round) }
				for round := range rounds {
					w.ask(t, strings.ReplaceAll(race.prepare, "KEY", key(round)))
				}
				wins := make(chan int, crowd*rounds)
				together(t, p, crowd, func(_ int, w *wire) error {
					for round := range rounds {
						r, err := w.reply("%s", strings.ReplaceAll(race.request, "KEY", key(round)))
						switch {
						case err != nil:
							return err
						case r == race.win:
							wins <- round
						case r != race.lose:
							return unexpected(r)
						}
					}
					return nil
				})
				close(wins)
				winners := map[int]int{}
				for round := range wins {
					winners[round]++
				}
				for round := range rounds {
					if winners[round] != 1 {
						t.Errorf("%d winners of %s", winners[round], key(round))
					}
				}
			})
		}
	})
}

// Commands of all kinds on one key are one sequence: every token that was
// appended or prepended is there once, whatever happened between.
func TestMixedCommandsAreAtomic(t *testing.T) {
	onEveryStore(t, func(t *testing.T, store string) {
		p := newServe(t, store).start(t)
		w := connect(t, p)
		w.want(t, "set k 5 0 1\r\n|\r\n", "STORED")
		const writers, each = 16, 20
		together(t, p, writers, func(i int, w *wire) error {
			for j := range each {
				token := fmt.Sprintf("%d.%d;", i, j)
				var r string
				var err error
				switch (i + j) % 4 {
				case 0:
					r, err = w.reply("append k 0 0 %d\r\n%s\r\n", len(token), token)
				case 1:
					r, err = w.reply("prepend k 0 0 %d\r\n%s\r\n", len(token), token)
				case 2:
					r, err = w.reply("ms k %d MA\r\n%s\r\n", len(token), token)
				default:
					r, err = w.reply("touch k 1000\r\nms k %d MP q\r\n%s\r\n", len(token), token)
				}
				if err != nil {
					return err
				}
				if r != "STORED" && r != "HD" && r != "TOUCHED" {
					return unexpected(r)
				}
			}
			return nil
		})
		units, err := w.exchange([]byte("get k\r\n"))
		if err != nil || len(units) != 2 || !strings.HasPrefix(units[0].line, "VALUE k 5 ") {
			t.Fatalf("get k was answered with %v, %v", units, err)
		}
		tokens := strings.Split(strings.Replace(strings.TrimSuffix(string(units[0].value), "\r\n"), "|", "", 1), ";")
		seen := map[string]int{}
		for _, token := range tokens {
			if token != "" {
				seen[token]++
			}
		}
		for i := range writers {
			for j := range each {
				if token := fmt.Sprintf("%d.%d", i, j); seen[token] != 1 {
					t.Errorf("%s is there %d times", token, seen[token])
				}
			}
		}
		if len(seen) != writers*each {
			t.Errorf("%d tokens, want %d", len(seen), writers*each)
		}
	})
}
