package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	natsio "github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

const natsBucket = "peers"

// nats is a key-value bucket with three replicas: with a sync for each write,
// or lazy as it comes, with one every two minutes.
func nats(name string) contestant {
	const pkg = "github.com/nats-io/nats-server/v2"
	sync, writes, lazy := "always", "synced on 2 of 3 nodes (sync_interval: always)", name == "nats-lazy"
	if lazy {
		sync, writes = "2m", "in memory on 2 of 3 nodes, synced every 2 minutes (its default)"
	}
	return contestant{
		name:   name,
		extra:  lazy,
		writes: writes,
		reads:  "from any replica, may be stale",
		get:    "go build -o nats-server " + pkg + ", in the directory bench",
		find: func(ctx context.Context, bin string, _ settings) (string, error) {
			return build(ctx, "", pkg, filepath.Join(bin, "nats-server"))
		},
		start: func(ctx context.Context, program, dir string, s settings) (cluster, error) {
			return startNats(ctx, program, dir, sync, s.own)
		},
	}
}

type natsCluster struct {
	pack
	listen []string
	own    bool
	shared [nodes]jetstream.KeyValue
}

func startNats(ctx context.Context, program, dir, sync string, own bool) (cluster, error) {
	n := &natsCluster{pack: pack{dir: dir}, own: own}
	addrs, err := addresses(ctx, 2*nodes)
	if err != nil {
		return nil, err
	}
	n.listen = addrs[:nodes]
	routes := "nats-route://" + strings.Join(addrs[nodes:], ", nats-route://")
	for i := range nodes {
		file := filepath.Join(dir, fmt.Sprintf("%d.conf", i+1))
		config := fmt.Sprintf(`
server_name: n%d
listen: "%s"
jetstream { store_dir: "%s", sync_interval: %s }
cluster { name: peers, listen: "%s", routes: [ %s ] }
`, i+1, n.listen[i], filepath.Join(dir, fmt.Sprint(i+1)), sync, addrs[nodes+i], routes)
		if err := os.WriteFile(file, []byte(config), 0o600); err != nil {
			return n, fmt.Errorf("write the configuration: %w", err)
		}
		if err := n.start(program, "-c", file); err != nil {
			return n, err
		}
	}
	return n, until(ctx, "there is a bucket on three nodes", &n.pack, func(ctx context.Context) error {
		conn, js, err := n.dial(0)
		if err != nil {
			return err
		}
		defer conn.Close()
		_, err = js.CreateKeyValue(ctx, jetstream.KeyValueConfig{
			Bucket: natsBucket, Replicas: nodes, Storage: jetstream.FileStorage, History: 1,
		})
		if err != nil && !errors.Is(err, jetstream.ErrBucketExists) {
			return err
		}
		info, err := streamInfo(ctx, js)
		if err != nil {
			return err
		}
		if info.Cluster == nil || info.Cluster.Leader == "" || len(info.Cluster.Replicas) != nodes-1 {
			return errors.New("not all replicas are there yet")
		}
		for _, r := range info.Cluster.Replicas {
			if r.Offline || !r.Current {
				return fmt.Errorf("%s is not current yet", r.Name)
			}
		}
		return nil
	})
}

func streamInfo(ctx context.Context, js jetstream.JetStream) (*jetstream.StreamInfo, error) {
	s, err := js.Stream(ctx, "KV_"+natsBucket)
	if err != nil {
		return nil, err
	}
	return s.Info(ctx)
}

func (n *natsCluster) members() *pack { return &n.pack }

// dearest is the leader of the bucket's stream.
func (n *natsCluster) dearest(ctx context.Context) (int, error) {
	conn, js, err := n.dial(0)
	if err != nil {
		return -1, err
	}
	defer conn.Close()
	info, err := streamInfo(ctx, js)
	if err != nil {
		return -1, err
	}
	for i := range nodes {
		if info.Cluster != nil && info.Cluster.Leader == fmt.Sprintf("n%d", i+1) {
			return i, nil
		}
	}
	return -1, errors.New("the bucket has no leader")
}

func (n *natsCluster) dial(node int) (*natsio.Conn, jetstream.JetStream, error) {
	conn, err := natsio.Connect("nats://"+n.listen[node], natsio.Timeout(patience))
	if err != nil {
		return nil, nil, err
	}
	js, err := jetstream.New(conn)
	return conn, js, err
}

// connect gives all clients of a node one connection, unless each shall have its own.
func (n *natsCluster) connect(ctx context.Context, node int) (client, error) {
	if !n.own && n.shared[node] != nil {
		return natsClient{ctx, n.shared[node]}, nil
	}
	conn, js, err := n.dial(node)
	if err != nil {
		return nil, err
	}
	kv, err := js.KeyValue(ctx, natsBucket)
	if err != nil {
		conn.Close()
		return nil, err
	}
	n.shared[node] = kv
	n.last = append(n.last, conn.Close)
	return natsClient{ctx, kv}, nil
}

type natsClient struct {
	ctx context.Context
	kv  jetstream.KeyValue
}

func (n natsClient) get(key string) error {
	ctx, cancel := context.WithTimeout(n.ctx, patience)
	defer cancel()
	_, err := n.kv.Get(ctx, key)
	return err
}

func (n natsClient) put(key string, value []byte) error {
	ctx, cancel := context.WithTimeout(n.ctx, patience)
	defer cancel()
	_, err := n.kv.Put(ctx, key, value)
	return err
}

func (n natsClient) swap(key string, value []byte) (bool, error) {
	ctx, cancel := context.WithTimeout(n.ctx, patience)
	defer cancel()
	entry, err := n.kv.Get(ctx, key)
	if err != nil {
		return false, err
	}
	_, err = n.kv.Update(ctx, key, value, entry.Revision())
	if errors.Is(err, jetstream.ErrKeyRevisionMismatch) {
		return false, nil
	}
	return err == nil, err
}

// close leaves the connection to the others.
func (natsClient) close() {}
