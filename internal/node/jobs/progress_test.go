package jobs

import (
	"math"
	"testing"

	"unkai/internal/core/topology"
)

// A job's speed is that of the last half minute: neither pauses nor what was long ago
// count, what comes in lumps is told evenly, and of what has stopped nobody knows.
func TestSpeedIsOfLately(t *testing.T) {
	var p progress
	top := topology.Topology{Job: &topology.Job{ID: 3}}
	now := int64(1_000_000)
	pass := func(seconds, replicas int) {
		t.Helper()
		for range seconds * 4 {
			now += 250
			p.note(&top, now)
		}
		top.Job.Moved.Replicas += replicas
		top.Job.Moved.Bytes += int64(replicas) * 100
		p.note(&top, now)
		if len(p.seen) > maxSeen || cap(p.seen) > 4*maxSeen {
			t.Fatalf("%d are kept", len(p.seen))
		}
	}
	is := func(what string, want float64) {
		t.Helper()
		replicas, bytes := p.speed(top.Job, now)
		if replicas *= 1000; math.Abs(replicas-want) > want/5 || math.Abs(bytes*1000-replicas*100) > 1 {
			t.Errorf("%s: %.2f replicas a second, want %.2f", what, replicas, want)
		}
	}
	p.note(&top, now)
	is("it has just begun", 0)
	for range 60 {
		pass(1, 10)
	}
	is("for a minute", 10)
	for range 40 {
		pass(1, 1)
	}
	is("slower since", 1)
	for range 2000 {
		now += 20
		top.Job.Moved.Replicas++
		top.Job.Moved.Bytes += 100
		p.note(&top, now)
	}
	is("in many small parts", 50)
	top.Job.Paused = true
	pass(3600, 0)
	is("paused", 0)
	top.Job.Paused = false
	for range 10 {
		pass(1, 5)
	}
	is("after an hour's pause", 5)
	pass(20, 0)
	is("nothing for some seconds", 50./30)
	pass(20, 0)
	is("nothing for long", 0)
	pass(60, 60)
	for range 5 {
		pass(45, 0)
		pass(15, 60)
		is("a lump each minute", 1)
	}
	pass(45, 0)
	is("some time after a lump", 60./105)
	top.Job = &topology.Job{ID: 4}
	pass(1, 0)
	is("another job", 0)
	top.Job = nil
	p.note(&top, now)
	if len(p.seen) != 0 {
		t.Error("what was seen of a job that has ended is kept")
	}
}
