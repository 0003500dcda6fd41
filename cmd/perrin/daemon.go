package main

import (
	"context"
	"io"
	"log/slog"
	"time"

	"github.com/perrin-mesh/perrin/node/api"
	"github.com/perrin-mesh/perrin/node/load"
	"github.com/perrin-mesh/perrin/workload"
)

// Daemon does the work behind init, join, up and dev.
type Daemon interface {
	// Init founds a mesh whose only node is this one, in an empty data folder.
	Init(ctx context.Context, opt InitOptions) (*Identity, error)
	// Join enters the mesh of a token; the daemon need not run.
	Join(ctx context.Context, opt JoinOptions) (*Identity, error)
	// RotateKey gives the node of a data folder a new key; no daemon may run on it.
	RotateKey(ctx context.Context, data string) (*NewKey, error)
	// AbortRotation gives a change of keys up that was begun; no daemon may run.
	AbortRotation(data string) (*Identity, error)
	// Up serves the node of a data folder until ctx ends.
	Up(ctx context.Context, opt UpOptions) error
	// Dev starts daemons as processes of their own, runs a command against them
	// or stays until ctx ends, stops them and returns the command's exit code.
	Dev(ctx context.Context, opt DevOptions) (int, error)
}

// Identity is what a node is after init or join.
type Identity struct {
	Mesh workload.MeshID `json:"mesh"`
	Node workload.PeerID `json:"node"`
	Name string          `json:"name"`
	Data string          `json:"data"`
	// ClockApart is how many seconds the clock of the node that let this one in
	// was ahead, if that is much.
	ClockApart int64 `json:"clock_apart_seconds,omitempty"`
}

// NodeOptions are what init, join and up share.
type NodeOptions struct {
	Data   string   // folder of keys, ledger and blobs
	Name   string   // for people; for up, "" keeps the one of the certificate
	Listen []string // multiaddrs
	Log    *slog.Logger
}

// InitOptions found a mesh.
type InitOptions struct {
	NodeOptions
	CellSize int // members of a cell at most
}

// JoinOptions enter a mesh.
type JoinOptions struct {
	NodeOptions
	Token    string
	MDNS     bool // look for the mesh on the local network as well
	Loopback bool // peers are on this machine only
}

// UpOptions serve a node.
type UpOptions struct {
	NodeOptions
	Labels     map[string]string // what --where can ask of this node
	Socket     string
	SocketMode uint32 // permissions of the socket: 0600 or 0660
	Cores      int    // declared capacity; 0 reads the machine
	FirstCore  int    // the core that a declared capacity begins at
	Memory     int64  // declared capacity in bytes; 0 reads the machine
	KeepCores  int    // that the machine's owner keeps
	KeepMemory int64  // bytes, likewise
	SpareOnly  bool   // lend idle time alone
	Quiet      load.Hours
	CellSize   int
	BlobLimit  int64 // bytes on disk
	LeaseTTL   time.Duration
	MDNS       bool
	Loopback   bool
	Pprof      bool
	Version    string
	Settings   []api.Setting // the effective configuration, for the API
	Ready      func()        // to be called once, when the node takes work
	Stopping   func()        // to be called once, when it begins to stop
}

// DevOptions run a local mesh.
type DevOptions struct {
	Nodes    int
	CellSize int
	Cores    int    // declared by each node
	Memory   int64  // declared by each node
	Data     string // "" is a temporary folder that is removed
	Command  []string
	LogLevel slog.Level
	Stdin    io.Reader
	Stdout   io.Writer
	Stderr   io.Writer
	Ready    func(DevMesh) // called once when the mesh takes work
}

// DevMesh is a local mesh that runs.
type DevMesh struct {
	Data    string   `json:"data"`
	Sockets []string `json:"sockets"`
}
