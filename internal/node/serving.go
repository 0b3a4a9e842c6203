package node

import (
	"unkai"
	"unkai/internal/core/topology"
)

// word is what a run of a node has said of whether it serves.
type word struct {
	run    uint64
	serves bool
	epoch  unkai.Epoch // that it knew when it said so; 0: this node has known it since
}

// word is what a hello says of the run that it is of. Of who does not say, being of an
// earlier build, the connected run is taken to serve, as builds like that judge each other.
func (h *hello) word(connected uint64) word {
	if h.Serves == nil {
		return word{run: connected, serves: true, epoch: h.Epoch}
	}
	return word{run: h.Run, serves: *h.Serves, epoch: h.Epoch}
}

// said notes what a run of a node says of itself.
func (s *sight) said(id unkai.NodeID, w word) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.words == nil {
		s.words = map[unkai.NodeID]word{}
	}
	if old := s.words[id]; old.run != w.run || old.serves != w.serves {
		s.words[id] = w
	}
}

// serves reports whether the run of a node to which this one is connected has said that
// it serves. A node that begins anew says so when it is a new incarnation, so before it
// counts the topology that says as much has to be known here.
func (s *sight) serves(id unkai.NodeID, run uint64, known unkai.Epoch) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	w, ok := s.words[id]
	if !ok || run == 0 || w.run != run || !w.serves || w.epoch > known {
		return false
	}
	w.epoch = 0 // later ones change nothing
	s.words[id] = w
	return true
}

// serves tells which nodes answer, and hold what this topology says that they hold. A
// connection alone says less: it is there as soon as a process is, which may have lost
// everything.
func (n *Node) serves(top *topology.Topology) func(unkai.NodeID) bool {
	return func(id unkai.NodeID) bool {
		return id == n.id || id != 0 && n.sight.serves(id, n.network.Run(id), top.Epoch)
	}
}

// inService is serves, but for this node, which may be starting or stopping, too.
func (n *Node) inService(top *topology.Topology) func(unkai.NodeID) bool {
	others := n.serves(top)
	return func(id unkai.NodeID) bool {
		if id == n.id {
			return n.ready()
		}
		return others(id)
	}
}

// ready reports whether this node serves.
func (n *Node) ready() bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.unready() == ""
}
