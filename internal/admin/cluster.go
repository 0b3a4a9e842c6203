package admin

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
)

// Cluster is what a node knows of the others. Each method may ask them, and ends
// with ctx.
type Cluster interface {
	Nodes(ctx context.Context) (Nodes, error)
	Locate(key []byte) (Location, error)
	Explain(ctx context.Context, key []byte) (Explanation, error)
}

// Nodes is the JSON of /v1/nodes.
type Nodes struct {
	Cluster  string   `json:"cluster"`
	Epoch    uint32   `json:"epoch"`
	Quorum   Quorum   `json:"quorum"`
	Buckets  int      `json:"buckets"`
	Moving   int      `json:"moving"` // buckets on their way to other replicas
	Job      *Job     `json:"job,omitempty"`
	Managers []string `json:"managers"`
	// AutoReplace is after how many seconds of silence a node is replaced by itself; 0:
	// never.
	AutoReplace float64 `json:"auto_replace_seconds"`
	// Survival is what the cluster does and survives.
	Survival *Survival `json:"survival,omitempty"`
	// Survives is how many more nodes may fail, whichever they are, before some
	// bucket cannot be read and written; below 0: some cannot be now.
	Survives int `json:"survives"`
	// Unavailable is how many buckets cannot be read and written now.
	Unavailable int    `json:"unavailable"`
	Nodes       []Node `json:"nodes"`
}

// Node is one member. Of one that does not answer, the parts from Listen on are
// missing.
type Node struct {
	ID          string `json:"id"`
	Peer        string `json:"peer"` // where it was last
	Zone        string `json:"zone,omitempty"`
	Weight      int    `json:"weight"`
	State       string `json:"state"`
	Manual      bool   `json:"manual,omitempty"` // an operator attaches it
	Incarnation uint32 `json:"incarnation"`
	Manager     bool   `json:"manager"`
	Alive       bool   `json:"alive"`
	Replicas    int    `json:"replicas"` // buckets it holds: those that follow together
	Present     int    `json:"present"`  // of which it is a replica
	Joining     int    `json:"joining"`  // that come to it
	Leaving     int    `json:"leaving"`  // that it has given away and has yet to drop
	// Ideal is how many it should hold by its weight.
	Ideal       float64 `json:"ideal"`
	Coordinates int     `json:"coordinates"`

	// Prospect is what becomes of it by itself, as far as the first manager has told.
	Prospect *Prospect `json:"prospect,omitempty"`
	// Link is the way from the node that tells it to this one.
	Link *Link `json:"link,omitempty"`

	Listen      string `json:"listen,omitempty"`
	HTTP        string `json:"http,omitempty"`
	Epoch       uint32 `json:"epoch,omitempty"`
	Store       string `json:"store,omitempty"` // "disk" or "memory"
	Sync        string `json:"sync,omitempty"`  // of a store on disk, as --sync
	Items       int64  `json:"items"`
	Bytes       int64  `json:"bytes"`
	Used        int64  `json:"used"`
	Limit       int64  `json:"limit"`
	Connections int64  `json:"connections"`
	Problem     string `json:"problem,omitempty"` // why it does not serve, or not as it should
}

// Location is the JSON of /v1/locate.
type Location struct {
	Key         string   `json:"key"`
	Hash        string   `json:"hash"`
	Bucket      int      `json:"bucket"`
	Epoch       uint32   `json:"epoch"` // of the bucket
	Replicas    []string `json:"replicas"`
	Joining     []string `json:"joining,omitempty"`
	Coordinator string   `json:"coordinator"` // the first replica that is alive
}

// Explanation is the JSON of /v1/explain.
type Explanation struct {
	Location
	Held []Held `json:"held"`
}

// Held is what one replica holds of a key.
type Held struct {
	Node      string `json:"node"`
	Error     string `json:"error,omitempty"` // then the rest is missing
	Exists    bool   `json:"exists"`
	Tombstone bool   `json:"tombstone"`
	Flushed   bool   `json:"flushed"` // by a flush_all: nobody sees it
	Ballot    string `json:"ballot"`
	Promise   string `json:"promise"`
	Epoch     uint32 `json:"epoch"` // in which it was accepted
	CAS       uint64 `json:"cas"`
	Flags     uint32 `json:"flags"`
	Expiry    int64  `json:"expiry"` // milliseconds since 1970; 0: never
	Size      int    `json:"size"`
	Checksum  string `json:"checksum"` // crc32c of the value
}

func (s *Server) nodes(w http.ResponseWriter, r *http.Request) {
	s.answer(w, func() (any, error) { return s.cfg.Cluster.Nodes(r.Context()) })
}

func (s *Server) locate(w http.ResponseWriter, r *http.Request) {
	s.answer(w, func() (any, error) {
		key, err := keyOf(r)
		if err != nil {
			return nil, err
		}
		return s.cfg.Cluster.Locate(key)
	})
}

func (s *Server) explain(w http.ResponseWriter, r *http.Request) {
	s.answer(w, func() (any, error) {
		key, err := keyOf(r)
		if err != nil {
			return nil, err
		}
		return s.cfg.Cluster.Explain(r.Context(), key)
	})
}

// ErrBadRequest says that the question makes no sense, whatever the state of the cluster.
var ErrBadRequest = errors.New("bad request")

func keyOf(r *http.Request) ([]byte, error) {
	key := r.URL.Query().Get("key")
	if key == "" {
		return nil, errors.Join(ErrBadRequest, errors.New("name a key: ?key=…"))
	}
	return []byte(key), nil
}

// answer writes what f gives as JSON.
func (s *Server) answer(w http.ResponseWriter, f func() (any, error)) {
	v, err := f()
	switch {
	case errors.Is(err, ErrBadRequest):
		s.text(w, http.StatusBadRequest, err.Error()+"\n")
		return
	case errors.Is(err, ErrConflict):
		s.text(w, http.StatusConflict, err.Error()+"\n")
		return
	case err != nil:
		s.text(w, http.StatusServiceUnavailable, err.Error()+"\n")
		return
	}
	b, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		s.cfg.Log.Error("an answer cannot be written as JSON", "err", err)
		s.text(w, http.StatusInternalServerError, "the answer cannot be written as JSON\n")
		return
	}
	w.Header().Set("Content-Type", "application/json")
	s.write(w, append(b, '\n'))
}
