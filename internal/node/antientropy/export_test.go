package antientropy

import "context"

// Pass compares all buckets once, and mends where they differ.
func (r *Repairer) Pass(ctx context.Context) {
	r.init()
	r.pass(ctx, false)
}
