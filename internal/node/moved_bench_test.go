package node_test

import (
	"encoding/json"
	"math"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"unkai/internal/admin"
	"unkai/internal/node"
)

// BenchmarkMoved attaches a node to three, has one replace another, and detaches one,
// and reports of each of these jobs how many replicas it moved by how many had to,
// how far the node that is farthest is from its share then, in percent, and how many
// bytes went between the nodes by what the keys and values that had to move have. Run
// it with -benchtime 1x.
func BenchmarkMoved(b *testing.B) {
	const records, size = 60_000, 1000
	for b.Loop() {
		var all []*node.Node
		for range 3 {
			all = append(all, benchNode(b, all))
			awaitIdle(b, all[0], len(all))
		}
		fillFast(b, all[0], records, size)
		m := &mover{b: b, all: &all, stored: records * size}
		m.measure("attach", func() { all = append(all, benchNode(b, all)) }, 4)
		m.measure("replace", func() {
			all = append(all, benchNode(b, all, func(c *node.Config) { c.Attach = node.Manual }))
			m.begin("replace", all[3].Peer(), all[4].Peer())
			all = append(all[:3], all[4])
		}, 4)
		m.measure("detach", func() {
			m.begin("detach", all[3].Peer())
			all = all[:3]
		}, 3)
	}
}

type mover struct {
	b      *testing.B
	all    *[]*node.Node
	stored int // bytes of keys and values, each once
}

// measure has a job begun, waits for its end and reports on it.
func (m *mover) measure(name string, begin func(), nodesAfter int) {
	m.b.Helper()
	time.Sleep(3 * time.Second) // what is being compared still would be taken for the job's
	before, jobsBefore := nodes(m.b, (*m.all)[0]), len(m.jobs())
	known := slices.Clone(*m.all)
	sent := linkBytes(known)
	begin()
	await(m.b, name+" has ended", 2*time.Minute, func() bool { return len(m.jobs()) > jobsBefore })
	awaitIdle(m.b, (*m.all)[0], nodesAfter)
	for _, n := range *m.all {
		if !slices.Contains(known, n) {
			known = append(known, n)
		}
	}
	sent = linkBytes(known) - sent
	after := nodes(m.b, (*m.all)[0])
	least, off := 0, 0.0
	for _, n := range after.Nodes {
		was := 0
		for _, o := range before.Nodes {
			if o.ID == n.ID {
				was = o.Replicas
			}
		}
		least += max(0, n.Replicas-was)
		off = max(off, 100*math.Abs(float64(n.Replicas)/n.Ideal-1))
	}
	ended := m.jobs()
	moved := ended[len(ended)-1].Moved.Replicas
	m.b.ReportMetric(float64(moved)/float64(least), name+"-of-least")
	m.b.ReportMetric(off, name+"-off-%")
	m.b.ReportMetric(float64(sent)/(float64(m.stored)*float64(least)/float64(after.Buckets)), name+"-bytes-of-least")
}

func linkBytes(all []*node.Node) (sum int64) {
	for _, n := range all {
		sum += n.PeerBytes()
	}
	return sum
}

// jobs are those that have ended, the last one at the end.
func (m *mover) jobs() []admin.Job {
	m.b.Helper()
	answer, err := http.Get("http://" + (*m.all)[0].HTTP().String() + "/v1/jobs")
	if err != nil {
		m.b.Fatal(err)
	}
	defer func() { _ = answer.Body.Close() }()
	var j admin.Jobs
	if err := json.NewDecoder(answer.Body).Decode(&j); err != nil {
		m.b.Fatal(err)
	}
	return j.Ended
}

// begin asks for a job until it begins: others may be forgetting still.
func (m *mover) begin(kind string, names ...string) {
	m.b.Helper()
	wish, err := json.Marshal(admin.Wish{Kind: kind, Nodes: names})
	if err != nil {
		m.b.Fatal(err)
	}
	await(m.b, kind+" begins", 20*time.Second, func() bool {
		answer, err := http.Post("http://"+(*m.all)[0].HTTP().String()+"/v1/jobs", "application/json", strings.NewReader(string(wish)))
		if err != nil {
			m.b.Fatal(err)
		}
		_ = answer.Body.Close() // its account comes when it has ended
		return answer.StatusCode == http.StatusOK
	})
}
