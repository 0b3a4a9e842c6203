package node_test

import (
	"fmt"
	"syscall"
	"testing"
	"time"

	"unkai"
	"unkai/internal/node"
)

// BenchmarkReturn stops one of three nodes that hold so many records, changes 10,000
// of them, and starts it again. It reports when it serves, when it knows what its
// buckets sum up to, and when all roots are equal and no key is known to differ,
// counted from its start. Run it with -benchtime 1x.
func BenchmarkReturn(b *testing.B) {
	for _, records := range []int{100_000, 1_000_000, 10_000_000} {
		b.Run(fmt.Sprint(records), func(b *testing.B) {
			for b.Loop() {
				returnOne(b, records, 10_000)
			}
		})
	}
}

func returnOne(b *testing.B, records, missed int) {
	p := prepare(b, records, 100)
	p.startAll(b)
	p.awaitEqual(b)
	p.stop(b, 2)
	fillFast(b, p.nodes[0], missed, 100)
	before := p.messages()
	began, used := time.Now(), processorTime()
	p.start(b, 2)
	b.ReportMetric(time.Since(began).Seconds(), "serves-s")
	p.awaitKnown(b)
	b.ReportMetric(time.Since(began).Seconds(), "known-s")
	p.awaitEqual(b)
	b.ReportMetric(time.Since(began).Seconds(), "equal-s")
	b.ReportMetric((processorTime() - used).Seconds(), "cpu-s")
	await(b, "no key is known to differ", time.Minute, func() bool { return p.unreconciled() == 0 })
	b.ReportMetric(time.Since(began).Seconds(), "status-s")
	b.ReportMetric(float64(p.messages()-before)/1e6, "MB")
}

// messages is how many bytes of questions about replicas the nodes have sent, with
// their answers.
func (p *prepared) messages() (sum int64) {
	for n := range p.each() {
		s := n.Repaired()
		sum += s.Sent + s.Received
	}
	return sum
}

// BenchmarkRestart starts three nodes anew that hold so many records each. It reports
// when all of them answer for keys, when they know what their buckets sum up to, and
// what that has cost of the processor's time. Run it with -benchtime 1x.
func BenchmarkRestart(b *testing.B) {
	for _, records := range []int{1_000_000, 10_000_000} {
		b.Run(fmt.Sprint(records), func(b *testing.B) {
			for b.Loop() {
				restartAll(b, records)
			}
		})
	}
}

func restartAll(b *testing.B, records int) {
	p := prepare(b, records, 100)
	began, used := time.Now(), processorTime()
	p.startAll(b)
	for n := range p.each() {
		await(b, "it answers", time.Minute, func() bool { return answers(n, records) })
	}
	b.ReportMetric(time.Since(began).Seconds(), "serves-s")
	p.awaitKnown(b)
	b.ReportMetric(time.Since(began).Seconds(), "known-s")
	b.ReportMetric((processorTime() - used).Seconds(), "cpu-s")
}

// answers reports whether a node answers for some keys all over the buckets.
func answers(n *node.Node, records int) bool {
	var q unkai.Batch
	for i := range uint32(100) {
		q.Add().Key = benchKey(nil, i*uint32(records/100))
	}
	for len(q.Results) < len(q.Ops) {
		n.Do(&q)
	}
	for i := range q.Results {
		if !q.Results[i].Item.Exists() {
			return false
		}
	}
	return true
}

// processorTime is what this process has used so far.
func processorTime() time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
