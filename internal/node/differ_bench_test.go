package node_test

import (
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"unkai"
	"unkai/internal/node"
	"unkai/internal/store"
)

// BenchmarkDiffer has one of three nodes miss the changes of 100 of a million records
// that all hold, and reports how long it takes, from then on, until all roots are equal,
// when `unkai repair` is asked for and when nobody asks; and what the nodes send for
// it: messages about replicas, questions and answers, and all that went over their
// connections meanwhile, frames and greetings too. Run it with -benchtime 1x.
func BenchmarkDiffer(b *testing.B) {
	for b.Loop() {
		p, forgets := prepareForgetful(b, 1_000_000)
		for _, asked := range []bool{true, false} {
			name := "alone-"
			if asked {
				name = "asked-"
			}
			took, messages, links := p.differ(b, forgets, 100, asked)
			b.ReportMetric(took.Seconds(), name+"s")
			b.ReportMetric(float64(messages)/1e3, name+"kB")
			b.ReportMetric(float64(links)/1e3, name+"links-kB")
		}
	}
}

// prepareForgetful is a cluster that runs, of which the last node can be told to
// store nothing.
func prepareForgetful(b *testing.B, records int) (*prepared, *atomic.Bool) {
	p := prepare(b, records, 100)
	var forgets atomic.Bool
	p.wrap = func(i int, dir string, buckets int) store.Engine {
		e := openStore(b, dir, buckets)
		if i < 2 {
			return e
		}
		return &forgetful{Engine: e, forgets: &forgets}
	}
	p.startAll(b)
	p.awaitEqual(b)
	return p, &forgets
}

// forgetful is a store that takes nothing while it is told so.
type forgetful struct {
	store.Engine
	forgets *atomic.Bool
}

func (e *forgetful) Write(w *store.Write) {
	if !e.forgets.Load() {
		e.Engine.Write(w)
		return
	}
	w.Err = store.ErrFull
	w.Done.WriteDone(w)
}

func (p *prepared) differ(b *testing.B, forgets *atomic.Bool, keys int, asked bool) (took time.Duration, messages, links int64) {
	forgets.Store(true)
	change(b, p.nodes[0], keys, 1_000_000)
	await(b, "they differ", time.Minute, func() bool {
		known, equal := p.known()
		return known-equal > keys*3/4
	})
	messages, links = p.messages(), p.sent()
	forgets.Store(false)
	began := time.Now()
	if asked {
		answer, err := http.Post("http://"+p.nodes[0].HTTP().String()+"/v1/repair", "application/json", strings.NewReader("{}"))
		if err != nil || answer.StatusCode != http.StatusOK {
			b.Fatal(answer, err)
		}
		_ = answer.Body.Close() // the account is not wanted
	}
	p.awaitEqual(b)
	took = time.Since(began)
	messages, links = p.messages()-messages, p.sent()-links
	await(b, "no key is known to differ", time.Minute, func() bool { return p.unreconciled() == 0 })
	return took, messages, links
}

// change stores new values of so many of the keys.
func change(b *testing.B, n *node.Node, keys, of int) {
	value := []byte(strings.Repeat("w", 100))
	for i := range uint32(keys) {
		var q unkai.Batch
		op := q.Add()
		op.Kind, op.Key, op.Value = unkai.Set, benchKey(nil, i*uint32(of/keys)), value
		for len(q.Results) == 0 {
			n.Do(&q)
		}
		if q.Results[0].Status != unkai.OK {
			b.Fatal(q.Results[0])
		}
	}
}

// sent is all that went over the connections between the nodes by now.
func (p *prepared) sent() (sum int64) {
	for n := range p.each() {
		sum += n.PeerBytes()
	}
	return sum
}
