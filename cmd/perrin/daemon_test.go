package main

import (
	"context"
	"errors"
	"fmt"
	"os/exec"

	"github.com/perrin-mesh/perrin/node/api/apitest"
	"github.com/perrin-mesh/perrin/workload"
)

// fakeDaemon prints what it is asked to do on stdout.
type fakeDaemon struct{}

func (*fakeDaemon) Init(_ context.Context, opt InitOptions) (*Identity, error) {
	fmt.Printf("init data=%s name=%s listen=%v cell-size=%d\n", opt.Data, opt.Name, opt.Listen, opt.CellSize)
	return &Identity{Mesh: workload.MeshID{1}, Node: apitest.Peer("anna"), Name: opt.Name, Data: opt.Data}, nil
}

func (*fakeDaemon) Join(_ context.Context, opt JoinOptions) (*Identity, error) {
	if opt.Token == "expired" {
		return nil, errors.New("the invitation has expired")
	}
	fmt.Printf("join data=%s name=%s token=%s\n", opt.Data, opt.Name, opt.Token)
	return &Identity{Mesh: workload.MeshID{1}, Node: apitest.Peer("ben"), Name: opt.Name, Data: opt.Data}, nil
}

func (*fakeDaemon) RotateKey(_ context.Context, data string) (*NewKey, error) {
	if data == "operator" {
		return nil, errors.New("an operator's node keeps its key")
	}
	return &NewKey{Identity{Mesh: workload.MeshID{1}, Node: apitest.Peer("ben"), Name: "shed", Data: data}, apitest.Peer("anna")}, nil
}

func (*fakeDaemon) AbortRotation(data string) (*Identity, error) {
	if data == "operator" {
		return nil, errors.New("no change of its key is begun")
	}
	return &Identity{Mesh: workload.MeshID{1}, Node: apitest.Peer("anna"), Name: "shed", Data: data}, nil
}

func (*fakeDaemon) Up(ctx context.Context, opt UpOptions) error {
	fmt.Printf("up data=%s name=%s socket=%s mode=%o cores=%d memory=%d pprof=%t listen=%v labels=%v ttl=%s blobs=%d\n",
		opt.Data, opt.Name, opt.Socket, opt.SocketMode, opt.Cores, opt.Memory, opt.Pprof, opt.Listen, opt.Labels, opt.LeaseTTL, opt.BlobLimit)
	opt.Ready()
	opt.Stopping()
	return nil
}

func (*fakeDaemon) Dev(ctx context.Context, opt DevOptions) (int, error) {
	opt.Ready(DevMesh{Data: "/tmp/x", Sockets: []string{"/tmp/x/1/s", "/tmp/x/2/s"}})
	if len(opt.Command) == 0 {
		return 0, nil
	}
	cmd := exec.CommandContext(ctx, opt.Command[0], opt.Command[1:]...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = opt.Stdin, opt.Stdout, opt.Stderr
	err := cmd.Run()
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		return exit.ExitCode(), nil
	}
	return 0, err
}
