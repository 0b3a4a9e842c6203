package gateway

import (
	"bytes"
	"errors"
	"slices"
	"sync"
	"time"

	"unkai"
	"unkai/internal/core/command"
	"unkai/internal/node/coordinator"
	"unkai/internal/peer"
)

// fan spreads the operations of a batch over the nodes that coordinate them,
// and gathers the results.
type fan struct {
	g      *Gateway
	b      *unkai.Batch
	groups []*group
	ended  chan *group
	until  time.Time
	wait   time.Duration          // for a newer topology, last
	reads  bool                   // nothing in the batch changes anything
	tried  map[int][]unkai.NodeID // by operation: who was asked in vain
	alive  []judged
}

// judged is a node and whether it was alive when the round began: operations on one
// key must not part because it dies between them.
type judged struct {
	id    unkai.NodeID
	alive bool
}

// group is what goes to one node.
type group struct {
	peer.Call
	fan   *fan
	to    unkai.NodeID
	ops   []int // of the batch
	local unkai.Batch
}

var fans = sync.Pool{New: func() any { return new(fan) }}

// CallDone implements peer.Done.
func (gr *group) CallDone(*peer.Call) { gr.fan.ended <- gr }

// wandering reports whether a result says that another node has to be asked.
func wandering(r unkai.Result) bool {
	return r.Err != nil && r.Status == unkai.Failed &&
		(errors.Is(r.Err, coordinator.ErrMoved) || errors.Is(r.Err, coordinator.ErrElsewhere) || lonely(r))
}

// lonely reports whether a result says that its node reached too few replicas.
// Others do better only if they are alive.
func lonely(r unkai.Result) bool { return errors.Is(r.Err, coordinator.ErrAway) }

// run answers the operations from first to last, but those that have a result
// already.
func (f *fan) run(g *Gateway, b *unkai.Batch, first, last int, reads bool) {
	f.g, f.b, f.reads, f.until = g, b, reads, time.Now().Add(g.cfg.Timeout)
	f.ended = make(chan *group, last-first)
	var todo []int
	for i := first; i < last; i++ {
		if r := &b.Results[i]; r.Status == unkai.Unanswered {
			todo = append(todo, i)
		} else if wandering(*r) {
			f.again(i, g.cfg.Self)
			todo = append(todo, i)
		}
	}
	for round := 0; len(todo) > 0; round++ {
		todo = f.round(todo, round)
	}
}

func (f *fan) end() { *f = fan{} }

// judge reports whether a node is alive, and says the same for a whole round.
func (f *fan) judge(id unkai.NodeID) bool {
	for _, j := range f.alive {
		if j.id == id {
			return j.alive
		}
	}
	j := judged{id, f.g.cfg.Network.Alive(id)}
	f.alive = append(f.alive, j)
	return j.alive
}

// again notes that an operation found nobody at a node.
func (f *fan) again(i int, at unkai.NodeID) {
	if f.tried == nil {
		f.tried = map[int][]unkai.NodeID{}
	}
	f.tried[i] = append(f.tried[i], at)
	f.g.retried.Add(1)
}

const (
	// maxRounds bounds how often operations are brought to other nodes.
	maxRounds = 32
	// lag is how long is waited for a newer topology at first, and then twice as
	// long each time, up to maxLag.
	lag    = time.Millisecond
	maxLag = 64 * time.Millisecond
)

// lagging reports whether all of a key's nodes have said that others hold it:
// then this node or they have yet to hear of the present topology.
func (f *fan) lagging(i, round int) bool {
	return len(f.tried[i]) > 0 && wandering(f.b.Results[i]) && !lonely(f.b.Results[i]) && round < maxRounds && time.Now().Before(f.until)
}

// overtaken reports whether a later change of the same key has been tried already, so
// that this operation would come after what its client sent behind it.
func (f *fan) overtaken(i int) bool {
	op := &f.b.Ops[i]
	for j := i + 1; j < len(f.b.Results); j++ {
		later := &f.b.Ops[j]
		if bytes.Equal(op.Key, later.Key) && !command.ReadsOnly(later) && f.b.Results[j].Status != unkai.Unanswered &&
			f.b.Results[j].Status != unkai.Failed {
			return true
		}
	}
	return false
}

// pause waits for a newer topology.
func (f *fan) pause() {
	f.wait = min(max(2*f.wait, lag), maxLag)
	time.Sleep(f.wait)
}

// round brings each operation to a node and returns those that have to be
// brought to another one.
func (f *fan) round(todo []int, round int) (rest []int) {
	g := f.g
	top := g.cfg.Topology()
	f.groups, f.alive = f.groups[:0], f.alive[:0]
	var own *group
	for _, i := range todo {
		if f.b.Results[i].Status == unkai.Failed && f.overtaken(i) {
			continue // it stays failed, and was not applied
		}
		at := g.target(top, &f.b.Ops[i], f.tried[i], f.reads, f.judge)
		if at == 0 && f.lagging(i, round) {
			delete(f.tried, i)
			rest = append(rest, i)
			continue
		}
		alone := lonely(f.b.Results[i])
		if at == 0 || alone && at != g.cfg.Self && !f.judge(at) || round > maxRounds || round > 0 && time.Now().After(f.until) {
			if !alone && (f.b.Results[i].Status == unkai.Unanswered || wandering(f.b.Results[i])) {
				f.b.Results[i] = unkai.Result{Status: unkai.Failed, Err: errNowhere}
			}
			continue
		}
		k := slices.IndexFunc(f.groups, func(gr *group) bool { return gr.to == at })
		if k < 0 {
			k = len(f.groups)
			f.groups = append(f.groups, &group{fan: f, to: at})
		}
		f.groups[k].ops = append(f.groups[k].ops, i)
	}
	lags := len(rest) > 0
	waiting := 0
	for _, gr := range f.groups {
		if gr.to == g.cfg.Self {
			own = gr
			continue
		}
		g.sent.Add(int64(len(gr.ops)))
		gr.send()
		waiting++
	}
	if own != nil {
		rest = append(rest, own.doHere()...)
	}
	for waiting > 0 {
		gr := <-f.ended
		more, again := gr.gather()
		rest = append(rest, again...)
		if more {
			gr.send()
			continue
		}
		waiting--
	}
	if lags {
		f.pause()
	}
	slices.Sort(rest)
	return rest
}

// doHere runs a group's operations at this node's coordinator, and returns
// those that another one has to run.
func (gr *group) doHere() (rest []int) {
	f, b := gr.fan, &gr.local
	for _, i := range gr.ops {
		*b.Add() = f.b.Ops[i]
	}
	for len(b.Results) < len(b.Ops) {
		f.g.cfg.Local.Do(b)
	}
	for k, i := range gr.ops {
		f.b.Results[i] = b.Results[k]
		if wandering(b.Results[k]) {
			f.again(i, gr.to)
			rest = append(rest, i)
			continue
		}
		f.own(i)
	}
	return rest
}

// own moves a result's value into the batch's memory.
func (f *fan) own(i int) {
	r := &f.b.Results[i]
	if v := r.Item.Value; len(v) > 0 {
		start := len(f.b.Values)
		f.b.Values = append(f.b.Values, v...)
		r.Item.Value = f.b.Values[start:len(f.b.Values):len(f.b.Values)]
	}
}

// send asks the group's node for what has no result yet.
func (gr *group) send() {
	gr.Kind, gr.Done = peer.Operations, gr
	gr.Timeout = max(time.Until(gr.fan.until), time.Millisecond)
	gr.Body = append(gr.Body[:0], wireVersion)
	for _, i := range gr.ops {
		gr.Body = appendOp(gr.Body, &gr.fan.b.Ops[i])
	}
	gr.fan.g.cfg.Network.Call(gr.to, &gr.Call)
}

// gather takes the results of an answer. It reports whether the node has to be
// asked for more, and which operations another node has to be asked for.
func (gr *group) gather() (more bool, again []int) {
	f := gr.fan
	if gr.Err != nil {
		return false, f.lost(gr)
	}
	r := cursor{b: gr.Reply}
	if r.u8() != wireVersion {
		r.fail()
	}
	done := 0
	for len(r.b) > 0 && done < len(gr.ops) {
		i := gr.ops[done]
		var res unkai.Result
		if r.result(&res); r.short {
			break
		}
		f.b.Results[i] = res
		if wandering(res) {
			f.again(i, gr.to)
			again = append(again, i)
		} else {
			f.own(i)
		}
		done++
	}
	if r.short || done == 0 {
		gr.Err = errShort
		gr.ops = gr.ops[done:]
		return false, append(again, f.lost(gr)...)
	}
	gr.ops = gr.ops[done:]
	return len(gr.ops) > 0, again
}

// lost settles the operations of a group whose node gave no answer: what was
// certainly not done, or only reads, is brought to another one.
func (f *fan) lost(gr *group) (again []int) {
	sent := peer.Sent(gr.Err)
	for _, i := range gr.ops {
		if sent && !command.ReadsOnly(&f.b.Ops[i]) {
			f.b.Results[i] = unkai.Result{Status: unkai.InDoubt, Err: gr.Err}
			continue
		}
		f.b.Results[i] = unkai.Result{Status: unkai.Failed, Err: gr.Err}
		f.again(i, gr.to)
		again = append(again, i)
	}
	return again
}
