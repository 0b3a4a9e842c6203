package topology

import "unkai"

// Renewal is a bucket in which a replica has forgotten what it promised and accepted of
// some keys, and the epoch in which it noticed.
type Renewal struct {
	Bucket unkai.Bucket
	Epoch  unkai.Epoch
}

// Renew is the topology in which buckets have the same replicas in a new epoch: what was
// begun under the one before, and relies on what was forgotten, is refused from then on
// (docs/decisions/0019). Buckets that have had a new epoch since, or are on their way and
// will get one, are left alone. It reports false when that is all of them.
func (t *Topology) Renew(renewals []Renewal) (Topology, bool) {
	next := t.next()
	any := false
	for _, r := range renewals {
		if int(r.Bucket) >= len(next.Sets) {
			continue
		}
		s := &next.Sets[r.Bucket]
		if max(s.Epoch, t.Flushed) > r.Epoch || !s.atRest() {
			continue
		}
		s.Epoch, any = next.Epoch, true
	}
	return next, any
}
