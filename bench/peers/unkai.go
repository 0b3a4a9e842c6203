package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"path/filepath"

	"github.com/bradfitz/gomemcache/memcache"
)

func unkai() contestant {
	return contestant{
		name:   "unkai",
		writes: "synced on 2 of 3 nodes",
		reads:  "linearizable, from any node",
		get:    "go build -o unkai ./cmd/unkai",
		find: func(ctx context.Context, bin string, s settings) (string, error) {
			if s.unkai != "" {
				return filepath.Abs(s.unkai)
			}
			mod, err := module(ctx)
			if err != nil {
				return "", err
			}
			return build(ctx, filepath.Dir(mod), "./cmd/unkai", filepath.Join(bin, "unkai"))
		},
		start: startUnkai,
	}
}

type unkaiCluster struct {
	pack
	listen []string
}

func startUnkai(ctx context.Context, program, dir string, _ settings) (cluster, error) {
	u := &unkaiCluster{pack: pack{dir: dir}}
	addrs, err := addresses(ctx, 3*nodes)
	if err != nil {
		return nil, err
	}
	var peer, page []string
	u.listen, peer, page = addrs[:nodes], addrs[nodes:2*nodes], addrs[2*nodes:]
	for i := range nodes {
		args := []string{
			"serve", "--data", filepath.Join(dir, fmt.Sprint(i+1)), "--log-level", "warn",
			"--listen", u.listen[i], "--peer", peer[i], "--http", page[i],
		}
		if i > 0 {
			args = append(args, "--join", peer[0])
		}
		if err := u.start(program, args...); err != nil {
			return u, err
		}
		// The others want somebody to join.
		if err := until(ctx, "the node answers", &u.pack, func(ctx context.Context) error {
			return settled(ctx, page[i], 1)
		}); err != nil {
			return u, err
		}
	}
	for _, p := range page {
		if err := until(ctx, "three nodes are attached", &u.pack, func(ctx context.Context) error {
			return settled(ctx, p, nodes)
		}); err != nil {
			return u, err
		}
	}
	return u, nil
}

// settled asks a node whether so many are attached, or more, and nothing moves.
func settled(ctx context.Context, page string, want int) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+page+"/v1/nodes", nil)
	if err != nil {
		return err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer func() { _ = resp.Body.Close() }()
	var n struct {
		Moving int `json:"moving"`
		Nodes  []struct {
			State    string `json:"state"`
			Alive    bool   `json:"alive"`
			Replicas int    `json:"replicas"`
		} `json:"nodes"`
	}
	if err := json.NewDecoder(resp.Body).Decode(&n); err != nil {
		return err
	}
	attached := 0
	for _, m := range n.Nodes {
		if m.Alive && m.State == "attached" && m.Replicas > 0 {
			attached++
		}
	}
	if want > 1 && n.Moving > 0 || attached < want {
		return fmt.Errorf("%d of %d nodes are attached, %d buckets move", attached, want, n.Moving)
	}
	return nil
}

func (u *unkaiCluster) members() *pack { return &u.pack }

func (u *unkaiCluster) dearest(context.Context) (int, error) { return -1, nil }

func (u *unkaiCluster) connect(_ context.Context, node int) (client, error) {
	c := memcache.New(u.listen[node])
	c.Timeout, c.MaxIdleConns = patience, 1
	return unkaiClient{c}, c.Ping()
}

type unkaiClient struct{ c *memcache.Client }

func (u unkaiClient) get(key string) error {
	_, err := u.c.Get(key)
	return err
}

func (u unkaiClient) put(key string, value []byte) error {
	return u.c.Set(&memcache.Item{Key: key, Value: value})
}

func (u unkaiClient) swap(key string, value []byte) (bool, error) {
	item, err := u.c.Get(key)
	if err != nil {
		return false, err
	}
	item.Value = value
	err = u.c.CompareAndSwap(item)
	if errors.Is(err, memcache.ErrCASConflict) {
		return false, nil
	}
	return err == nil, err
}

func (u unkaiClient) close() { _ = u.c.Close() }
