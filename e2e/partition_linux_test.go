package e2e

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

const (
	hosts  = 5
	enough = 2 // replicas, of the three that a key has: for a write, and for a read

	// A cut lasts cutFor, or longer on a busy machine: until who can serve has served, for
	// at most waitFor more and as long as the machine stands still. Until noticed is over a
	// node may still ask in vain: it has to learn who is away.
	cutFor  = 4000 * time.Millisecond
	waitFor = 10 * time.Second
	noticed = 2 * time.Second
	missed  = noticed / 4
	// No answer takes longer than --request-timeout, and what a busy machine adds beside
	// the time for which it stood still.
	latest = 2*time.Second + time.Second
)

// shape is a way to cut a network.
type shape struct {
	name string
	cut  []link
	flap bool // the cut comes and goes
}

// shapes are the ways in which five nodes are cut.
func (p *partitioned) shapes() []shape {
	return []shape{
		{name: "isolated", cut: between([]int{0}, []int{1, 2, 3, 4})},
		{name: "halves", cut: between([]int{0, 1}, []int{2, 3, 4})},
		p.bridge(),
		{name: "link", cut: between([]int{1}, []int{2})},
		{name: "deaf", cut: []link{{0, 3}, {1, 3}, {2, 3}, {4, 3}}},
		{name: "mute", cut: []link{{4, 0}, {4, 1}, {4, 2}, {4, 3}}},
		{name: "flapping", cut: between([]int{2}, []int{0, 1, 3, 4}), flap: true},
	}
}

// bridge is a cut in which two pairs see each other through one node only. Of all
// such it is the one that leaves most keys with a coordinator that cannot serve
// them: another replica can, and the node between the pairs should find it.
func (p *partitioned) bridge() (worst shape) {
	most := -1
	for middle := range hosts {
		for i := 1; i < hosts-1; i++ {
			rest := slices.DeleteFunc([]int{0, 1, 2, 3, 4}, func(n int) bool { return n == middle })
			pair := []int{rest[0], rest[i]}
			others := slices.DeleteFunc(rest, func(n int) bool { return slices.Contains(pair, n) })
			s := shape{name: "bridge", cut: between(pair, others)}
			n := 0
			for _, a := range p.askers {
				if a.node == middle && s.can(a) && s.reach(a.replicas[0], a.replicas) < enough {
					n++
				}
			}
			if n > most {
				most, worst = n, s
			}
		}
	}
	p.t.Logf("of the keys at the bridge, %d have a coordinator that can reach no other replica", most)
	return worst
}

// between are the links from these hosts to those, and back.
func between(these, those []int) (out []link) {
	for _, a := range these {
		for _, b := range those {
			out = append(out, link{a, b}, link{b, a})
		}
	}
	return out
}

// meet reports whether two nodes can ask each other: packets have to come and go.
func (s shape) meet(a, b int) bool {
	return a == b || !slices.Contains(s.cut, link{a, b}) && !slices.Contains(s.cut, link{b, a})
}

// reach counts the replicas that a node can ask.
func (s shape) reach(node int, replicas []int) (n int) {
	for _, r := range replicas {
		if s.meet(node, r) {
			n++
		}
	}
	return n
}

// can reports whether an asker's node has to serve its key: it can ask a replica
// that can ask enough of them.
func (s shape) can(a *asker) bool {
	return slices.ContainsFunc(a.replicas, func(r int) bool { return s.meet(a.node, r) && s.reach(r, a.replicas) >= enough })
}

// cannot reports whether an asker's node must not serve its key: however it is
// passed on, a request comes to too few replicas.
func (s shape) cannot(a *asker) bool {
	island := []int{a.node}
	for i := 0; i < len(island); i++ {
		for b := range hosts {
			if s.meet(island[i], b) && !slices.Contains(island, b) {
				island = append(island, b)
			}
		}
	}
	n := 0
	for _, r := range a.replicas {
		if slices.Contains(island, r) {
			n++
		}
	}
	return n < enough && !s.flap
}

// partitioned is a cluster on a network that can be cut, and who asks it.
type partitioned struct {
	*cluster
	network *network
	askers  []*asker
}

// Five nodes on five hosts are cut in every way that differs to them. Each key
// is one register all the while; who can reach enough replicas of a key serves
// it, and who cannot does not; nobody waits longer than the request timeout; when
// the network is whole again everybody serves everything, and what was
// acknowledged is there.
func TestPartitions(t *testing.T) {
	p := &partitioned{cluster: &cluster{t: t, hurried: true}, network: newNetwork(t, hosts)}
	for i := range hosts {
		at := p.network.address(i)
		m := &member{dir: t.TempDir() + "/data", peer: at + ":21011", inside: p.network.inside(i)}
		m.process = &process{addr: at + ":21211", http: at + ":21080"}
		p.members = append(p.members, m)
		p.run(i, p.members[0].peer)
	}
	p.settled(hosts)
	p.employ()
	for _, s := range p.shapes() {
		t.Run(s.name, func(t *testing.T) { p.in(t).partition(s) })
	}
	t.Run("restart", func(t *testing.T) { p.in(t).restart() })
}

// in is the same cluster in a subtest.
func (p *partitioned) in(t *testing.T) *partitioned {
	return &partitioned{&cluster{t: t, members: p.members, hurried: true}, p.network, p.askers}
}

// employ finds keys for askers: at every node one for every order of replicas
// that there is.
func (p *partitioned) employ() {
	p.t.Helper()
	number := map[string]int{}
	for i, m := range p.members {
		var status struct {
			Node string `json:"node"`
		}
		if err := m.page("/v1/status", &status); err != nil {
			p.t.Fatal(err)
		}
		number[status.Node] = i
	}
	got := map[string]bool{}
	for i := range 1000 {
		var at struct {
			Replicas []string `json:"replicas"`
		}
		key := fmt.Sprint("asked-", i)
		if err := p.members[0].page("/v1/locate?key="+key, &at); err != nil {
			p.t.Fatal(err)
		}
		var replicas []int
		for _, id := range at.Replicas {
			replicas = append(replicas, number[id])
		}
		if len(replicas) != 3 {
			p.t.Fatalf("%s has the replicas %v", key, at.Replicas)
		}
		node := i % hosts
		if kind := fmt.Sprint(node, replicas); !got[kind] {
			got[kind] = true
			p.askers = append(p.askers, &asker{node: node, key: key, replicas: replicas, process: p.members[node].process})
		}
	}
	p.t.Logf("%d keys are asked for", len(p.askers))
}

// asked lets all askers ask during what disturb does.
func (p *partitioned) asked(disturb func()) {
	stop := make(chan struct{})
	var wg sync.WaitGroup
	for _, a := range p.askers {
		wg.Go(func() { a.run(stop) })
	}
	defer wg.Wait()
	defer close(stop)
	disturb()
}

// partition cuts the network, heals it, and judges.
func (p *partitioned) partition(s shape) {
	var cut, heal, end time.Time
	p.asked(func() {
		p.judged(cutFor+2*time.Second, p.endpoints(), func() {
			pause(500 * time.Millisecond)
			if s.flap {
				cut, heal = p.flap(s)
			} else {
				p.network.cut(p.t, s.cut...)
				cut = time.Now()
				pause(cutFor)
				heal = p.serve(s, cut)
				p.network.cut(p.t)
			}
		})
		p.healed(heal)
		end = time.Now()
	})
	p.overstepped(s, cut, heal)
	for node := range hosts {
		p.report(s, node, cut.Add(noticed), heal)
	}
	p.hung(cut, end)
	p.all()
}

// flap cuts and heals again and again, at random moments.
func (p *partitioned) flap(s shape) (cut, until time.Time) {
	r := random(seed(p.t), 0)
	cut = time.Now()
	for {
		p.network.cut(p.t, s.cut...)
		pause(time.Duration(r.Int64N(int64(900 * time.Millisecond))))
		p.network.cut(p.t)
		pause(time.Duration(r.Int64N(int64(900 * time.Millisecond))))
		if until = time.Now(); until.Sub(cut) >= cutFor && p.lasted(s, cut, until) {
			return cut, until
		}
	}
}

// serve waits during a cut until those who can serve their keys do.
func (p *partitioned) serve(s shape, cut time.Time) (until time.Time) {
	for {
		if until = time.Now(); p.lasted(s, cut, until) {
			return until
		}
		pause(askEvery)
	}
}

// lasted reports whether a cut has lasted long enough to be judged: every node serves the
// keys that it can, or has had the time for it.
func (p *partitioned) lasted(s shape, cut, until time.Time) bool {
	if until.Sub(cut) > cutFor+waitFor+excused(cut, until) {
		return true
	}
	for node := range hosts {
		if can, _, idle := p.told(s, node, cut.Add(noticed), until); len(idle) > 0 || !can.well() {
			return false
		}
	}
	return true
}

// overstepped complains about all that was served during a cut by who reached too few
// replicas: that must not be from the first moment on, however busy the machine is.
func (p *partitioned) overstepped(s shape, cut, heal time.Time) {
	p.t.Helper()
	for _, a := range p.askers {
		if !s.cannot(a) {
			continue
		}
		within := slices.DeleteFunc(a.during(cut, heal), func(r answer) bool { return r.begun.Add(r.took).After(heal) })
		if wrote, read := served(within); wrote || read {
			p.t.Errorf("node %d served %s, of nodes %v: it can reach too few of them", a.node+1, a.key, numbers(a.replicas))
		}
	}
}

// healed waits until every asker has been told something about a write and a
// read that it asked for after a moment.
func (p *partitioned) healed(after time.Time) {
	p.t.Helper()
	eventually(p.t, "every node serves every key", func() error {
		for _, a := range p.askers {
			answers := a.during(after, time.Now())
			if wrote, read := served(answers); !wrote || !read {
				return fmt.Errorf("node %d does not serve %s, of nodes %v: %w", a.node+1, a.key, numbers(a.replicas), lastFailure(answers))
			}
		}
		return nil
	})
	p.t.Logf("every node served every key %v after the end of the cut", time.Since(after).Round(time.Millisecond))
}

// served reports whether a write and a read were answered.
func served(answers []answer) (wrote, read bool) {
	for _, r := range answers {
		wrote = wrote || r.err == nil && r.write
		read = read || r.err == nil && !r.write
	}
	return wrote, read
}

// lastFailure is the last thing that went wrong.
func lastFailure(answers []answer) error {
	for _, r := range slices.Backward(answers) {
		if r.err != nil {
			return r.err
		}
	}
	return errors.New("it has not answered yet")
}

func numbers(nodes []int) (out []int) {
	for _, n := range nodes {
		out = append(out, n+1)
	}
	return out
}

// tally is how what was asked ended.
type tally struct {
	keys, asked, answered, excused int
	slowest                        time.Duration
	failure                        error
}

// add counts answers, but not what failed when the machine had stood still for so long that
// nodes may have missed each other.
func (y *tally) add(answers []answer) {
	y.keys++
	for _, r := range answers {
		if r.err != nil && excused(r.begun, r.begun.Add(r.took)) > missed {
			y.excused++
			continue
		}
		y.asked++
		y.slowest = max(y.slowest, r.took)
		if r.err == nil {
			y.answered++
		} else {
			y.failure = r.err
		}
	}
}

func (y *tally) String() string {
	return fmt.Sprintf("%d keys, %.1f%% of %d answered, %d excused, slowest %v", y.keys, 100*float64(y.answered)/float64(max(y.asked, 1)), y.asked, y.excused, y.slowest.Round(time.Millisecond))
}

// well reports whether nearly all was answered.
func (y *tally) well() bool { return y.answered*10 >= y.asked*9 }

// told are the operations of a node on keys that it can serve and on others; idle are those
// of the first of which it served nothing.
func (p *partitioned) told(s shape, node int, from, until time.Time) (can, cannot tally, idle []string) {
	for _, a := range p.askers {
		if a.node != node {
			continue
		}
		answers := a.during(from, until)
		if !s.can(a) {
			cannot.add(answers)
			continue
		}
		can.add(answers)
		if wrote, read := served(answers); !wrote || !read {
			idle = append(idle, fmt.Sprint(numbers(a.replicas)))
		}
	}
	return can, cannot, idle
}

// report judges what a node has served during a cut.
func (p *partitioned) report(s shape, node int, from, until time.Time) {
	p.t.Helper()
	can, cannot, idle := p.told(s, node, from, until)
	p.t.Logf("node %d: with a quorum %v; without %v", node+1, &can, &cannot)
	if len(idle) > 0 {
		p.t.Errorf("node %d did not serve keys of nodes %s: it can reach enough of them (%v)", node+1, strings.Join(idle, " "), can.failure)
	}
	if !can.well() {
		p.t.Errorf("node %d answered only %d of %d operations on keys that have a quorum (%v)", node+1, can.answered, can.asked, can.failure)
	}
}

// hung complains about operations that took too long.
func (p *partitioned) hung(from, until time.Time) {
	p.t.Helper()
	for _, a := range p.askers {
		for _, r := range a.during(from, until) {
			if excuse := excused(r.begun, r.begun.Add(r.took)); r.took > latest+excuse {
				p.t.Errorf("node %d took %v to answer for %s, of nodes %v (%v); the machine stood still for %v", a.node+1, r.took, a.key, numbers(a.replicas), r.err, excuse)
			}
		}
	}
}

// all checks every asker's key at every node. Nobody is asking meanwhile.
func (p *partitioned) all() {
	p.t.Helper()
	for i, m := range p.members {
		w := connect(p.t, m.process)
		for _, a := range p.askers {
			// No asker may have asked this node about these replicas, so that it was not
			// waited for its connections.
			eventually(p.t, fmt.Sprintf("node %d serves %s, of nodes %v", i+1, a.key, numbers(a.replicas)), func() error {
				units, err := w.exchange([]byte(a.question()))
				if err == nil && (len(units) != 1 || strings.HasPrefix(units[0].line, "SERVER_ERROR")) {
					err = fmt.Errorf("it was not served: %v", units)
				}
				if err == nil {
					_ = a.saw(units[0]) // what is wrong is told below
				}
				return err
			})
		}
	}
	for _, a := range p.askers {
		if err := a.wrongly(); err != nil {
			p.t.Error(err)
		}
	}
}

// restart kills all nodes at once, in the middle of everything, and starts them
// again.
func (p *partitioned) restart() {
	var back time.Time
	p.asked(func() {
		p.judged(5*time.Second, p.endpoints(), func() {
			pause(time.Second)
			for _, m := range p.members {
				m.signal(p.t, syscall.SIGKILL)
			}
			for i, m := range p.members {
				m.awaitExit(p.t)
				p.run(i, "")
			}
			back = time.Now()
		})
		p.healed(back)
	})
	p.settled(hosts)
	p.all()
}
