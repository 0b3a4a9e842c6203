package admin

import "net/http"

// RepairWish is the JSON that asks for a repair.
type RepairWish struct {
	Bucket *int `json:"bucket,omitempty"` // null: all
}

// RepairRun is the JSON of /v1/repair: how far a repair that was asked for is in the
// whole cluster, and what it has found.
type RepairRun struct {
	ID      string `json:"id"`    // "": the node that was asked remembers none
	Begun   int64  `json:"begun"` // milliseconds since 1970
	Running bool   `json:"running"`
	Buckets int    `json:"buckets"` // that it is about
	// Compared are those with which it is done, whether they were found equal or not.
	Compared int `json:"compared"`
	Equal    int `json:"equal"`
	// Busy are those of the equal ones that were written to whenever they were looked
	// at: what differed in them was mended, and what has been written since is under way.
	Busy     int `json:"busy"`
	Differed int `json:"differed"` // at first
	// Unequal are those that could not be compared, or not be mended.
	Unequal []Unequal `json:"unequal"`
	Brought int64     `json:"brought"` // records that replicas lacked and have taken over
	Settled int64     `json:"settled"` // keys that needed a round
	Failed  int64     `json:"failed"`  // records that a store could not take over
	Bytes   int64     `json:"bytes"`   // exchanged where replicas differed
	// Progress is the part of the buckets with which it is done, from 0 to 1, and Left
	// the seconds that the rest will take if it goes on as so far; 0: nobody knows.
	Progress float64 `json:"progress"`
	Left     float64 `json:"seconds_left,omitempty"`
	// Silent are the nodes that have given no account of it.
	Silent []Silent `json:"silent"`
}

// Unequal are buckets that were not found equal for one reason.
type Unequal struct {
	Why     string `json:"why"`
	Buckets int    `json:"buckets"`
	Some    []int  `json:"some"` // the first of them
}

// Silent is a node that gives no account.
type Silent struct {
	Node  string `json:"node"`
	Alive bool   `json:"alive"` // it may be at work, and answer another time
	Why   string `json:"why"`
}

func (s *Server) repair(w http.ResponseWriter, r *http.Request) {
	var wish RepairWish
	s.told(w, r, &wish, func() (any, error) { return s.cfg.Operator.Repair(r.Context(), wish) })
}

func (s *Server) repaired(w http.ResponseWriter, r *http.Request) {
	s.answer(w, func() (any, error) { return s.cfg.Operator.Repaired(r.Context(), r.URL.Query().Get("id")) })
}
