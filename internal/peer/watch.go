package peer

import "time"

// watch is the one timer of a Port: at every tick it ends calls whose time is
// up and connections that are dead.
func (p *Port) watch() {
	t := time.NewTicker(tick)
	defer t.Stop()
	var out []*outbound
	var in []*inbound
	for {
		select {
		case <-p.ctx.Done():
			return
		case <-t.C:
		}
		ticks, now := p.ticks.Add(1), p.now()
		cluster := p.cfg.Cluster()
		out, in = out[:0], in[:0]
		p.mu.Lock()
		for o := range p.out {
			out = append(out, o)
		}
		for i := range p.in {
			in = append(in, i)
		}
		p.mu.Unlock()
		for _, o := range out {
			o.expire(now)
			o.watch(ticks, cluster)
			o.retire(ticks)
		}
		for _, i := range in {
			i.watch(ticks, cluster)
		}
		clear(out)
		clear(in)
	}
}

// watch ends the wire if it is dead, or was opened before this node had its
// cluster and may lead into another one.
func (w *wire) watch(ticks int64, cluster uint64) {
	if !w.up.Load() {
		return
	}
	err := w.judge(ticks)
	if err == nil && w.mine != cluster && w.theirs != cluster {
		err = ErrOtherCluster
	}
	if err != nil {
		w.abort(err)
	}
}
