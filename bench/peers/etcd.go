package main

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strings"

	"go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
)

func etcd() contestant {
	const pkg = "go.etcd.io/etcd/server/v3"
	return contestant{
		name:   "etcd",
		writes: "synced on 2 of 3 nodes",
		reads:  "linearizable, from any node",
		get:    "go build -o etcd " + pkg + ", in the directory bench",
		find: func(ctx context.Context, bin string, _ settings) (string, error) {
			return build(ctx, "", pkg, filepath.Join(bin, "etcd"))
		},
		start: func(ctx context.Context, program, dir string, s settings) (cluster, error) {
			return startEtcd(ctx, program, dir, s.own)
		},
	}
}

type etcdCluster struct {
	pack
	listen []string
	own    bool
	shared [nodes]*clientv3.Client
}

func startEtcd(ctx context.Context, program, dir string, own bool) (cluster, error) {
	e := &etcdCluster{pack: pack{dir: dir}, own: own}
	addrs, err := addresses(ctx, 2*nodes)
	if err != nil {
		return nil, err
	}
	e.listen = addrs[:nodes]
	var all []string
	for i, peer := range addrs[nodes:] {
		all = append(all, fmt.Sprintf("n%d=http://%s", i+1, peer))
	}
	for i := range nodes {
		self, peer := "http://"+e.listen[i], "http://"+addrs[nodes+i]
		if err := e.start(program,
			"--name", fmt.Sprintf("n%d", i+1), "--data-dir", filepath.Join(dir, fmt.Sprint(i+1)),
			"--listen-client-urls", self, "--advertise-client-urls", self,
			"--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer,
			"--initial-cluster", strings.Join(all, ","), "--log-level", "error",
		); err != nil {
			return e, err
		}
	}
	return e, until(ctx, "there is a leader", &e.pack, func(ctx context.Context) error {
		n, err := e.dearest(ctx)
		if err == nil && n < 0 {
			return errors.New("no leader yet")
		}
		return err
	})
}

func (e *etcdCluster) members() *pack { return &e.pack }

// dearest is the leader. All three have to agree.
func (e *etcdCluster) dearest(ctx context.Context) (int, error) {
	leader, found := uint64(0), -1
	for node := range nodes {
		c, err := e.dial(ctx, node)
		if err != nil {
			return -1, err
		}
		s, err := c.Status(ctx, e.listen[node])
		_ = c.Close()
		if err != nil {
			return -1, err
		}
		if s.Leader == 0 || node > 0 && s.Leader != leader {
			return -1, nil
		}
		leader = s.Leader
		if s.Header.MemberId == leader {
			found = node
		}
	}
	return found, nil
}

func (e *etcdCluster) dial(ctx context.Context, node int) (*clientv3.Client, error) {
	return clientv3.New(clientv3.Config{
		Context: ctx, Endpoints: []string{e.listen[node]}, DialTimeout: patience, Logger: zap.NewNop(),
	})
}

// connect gives all clients of a node one connection, which they share as its
// makers recommend, unless each shall have its own.
func (e *etcdCluster) connect(ctx context.Context, node int) (client, error) {
	if !e.own && e.shared[node] != nil {
		return etcdClient{ctx, e.shared[node]}, nil
	}
	c, err := e.dial(ctx, node)
	if err != nil {
		return nil, err
	}
	e.shared[node] = c
	e.last = append(e.last, func() { _ = c.Close() })
	return etcdClient{ctx, c}, nil
}

type etcdClient struct {
	ctx context.Context
	c   *clientv3.Client
}

func (e etcdClient) fetch(ctx context.Context, key string) (revision int64, err error) {
	r, err := e.c.Get(ctx, key)
	if err != nil {
		return 0, err
	}
	if len(r.Kvs) != 1 {
		return 0, errors.New("not found")
	}
	return r.Kvs[0].ModRevision, nil
}

func (e etcdClient) get(key string) error {
	ctx, cancel := context.WithTimeout(e.ctx, patience)
	defer cancel()
	_, err := e.fetch(ctx, key)
	return err
}

func (e etcdClient) put(key string, value []byte) error {
	ctx, cancel := context.WithTimeout(e.ctx, patience)
	defer cancel()
	_, err := e.c.Put(ctx, key, string(value))
	return err
}

func (e etcdClient) swap(key string, value []byte) (bool, error) {
	ctx, cancel := context.WithTimeout(e.ctx, patience)
	defer cancel()
	revision, err := e.fetch(ctx, key)
	if err != nil {
		return false, err
	}
	r, err := e.c.Txn(ctx).
		If(clientv3.Compare(clientv3.ModRevision(key), "=", revision)).
		Then(clientv3.OpPut(key, string(value))).Commit()
	if err != nil {
		return false, err
	}
	return r.Succeeded, nil
}

// close leaves the connection to the others.
func (etcdClient) close() {}
