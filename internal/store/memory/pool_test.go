package memory

import "testing"

// TestPool: pages given back are used again, those that the system took too,
// and no page is handed out twice.
func TestPool(t *testing.T) {
	const limit = 2000 * pageSize
	p := newPool(limit)
	defer func() { _ = p.close() }()
	takeAll := func(r right) (pages []uint32) {
		t.Helper()
		seen := map[uint32]bool{}
		for {
			page, segments, ok := p.take(r)
			if !ok {
				return pages
			}
			if seen[page] {
				t.Fatalf("page %d was handed out twice", page)
			}
			seen[page] = true
			mem := pageOf(segments, page)
			mem[0], mem[pageSize-1] = 1, 1
			pages = append(pages, page)
		}
	}
	for round := range 3 {
		pages := takeAll(toGrow)
		if used, full := p.usage(); len(pages) != 2000-2000/128 || !full || used != int64(len(pages))*pageSize {
			t.Fatalf("round %d: %d pages, %d bytes used, full %v", round, len(pages), used, full)
		}
		reserve := takeAll(toDelete)
		if len(reserve) != 2000/128 {
			t.Errorf("round %d: a reserve of %d pages", round, len(reserve))
		}
		if page, _, ok := p.take(always); !ok {
			t.Error("no page beyond the limit")
		} else {
			p.give(page)
		}
		for _, page := range append(pages, reserve...) {
			p.give(page)
		}
		if used, full := p.usage(); used != 0 || full {
			t.Errorf("round %d: %d bytes used, full %v", round, used, full)
		}
		if len(p.warm) > keepPages && len(p.cold) > 0 {
			t.Errorf("%d free pages were kept, want %d at most", len(p.warm), keepPages)
		}
	}
	if int(p.fresh) > 2001 {
		t.Errorf("%d pages were mapped for a limit of 2000", p.fresh)
	}
}
