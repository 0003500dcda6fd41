// Golang shows what a workload can ask the node it runs on. The same source
// runs natively and as a wasip1 guest:
//
//	go build -o unit ./examples/unit/golang && perrin run -- ./unit
//	GOOS=wasip1 GOARCH=wasm go build -o unit.wasm ./examples/unit/golang && perrin run -- unit.wasm
package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"

	"github.com/perrin-mesh/perrin/workload/unit/unitclient"
	"github.com/perrin-mesh/perrin/workload/unit/unitwire"
)

func main() {
	if err := run(context.Background()); err != nil {
		fmt.Fprintln(os.Stderr, "error:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context) error {
	node, err := unitclient.New()
	if err != nil {
		return err
	}
	me, err := node.Whoami(ctx)
	if err != nil {
		return err
	}
	fmt.Printf("task %d of %d on %s, attempt %d\n", me.Task, me.Count, me.Node, me.Attempt)
	inputs, err := node.Inputs(ctx)
	if err != nil {
		return err
	}
	for _, in := range inputs {
		fmt.Printf("input %s: a %s of %d bytes\n", in.Path, in.Kind, in.Size)
	}
	if err := publish(ctx, node); err != nil {
		return err
	}
	notice, err := node.Notice(ctx, 0, 0)
	if err != nil {
		return err
	}
	if notice.Kind != unitwire.None {
		fmt.Printf("%s in %d ms: %s\n", notice.Kind, notice.LeftMs, notice.Reason)
	}
	cost, err := node.Cost(ctx)
	if err != nil {
		return err
	}
	fmt.Printf("cost so far: %d micro-credits in %d s\n", cost.MicroCredits, cost.Seconds)
	return nil
}

// publish makes two outputs: one of bytes, one of a file in the output folder.
func publish(ctx context.Context, node *unitclient.Client) error {
	first, err := node.Publish(ctx, "hello.txt", []byte("hello from a task\n"))
	if err != nil {
		return err
	}
	fmt.Printf("published %s: %d bytes\n", first.Path, first.Size)
	out := os.Getenv("PERRIN_OUT")
	if err := os.WriteFile(filepath.Join(out, "table.csv"), []byte("a,b\n1,2\n"), 0o644); err != nil {
		return err
	}
	second, err := node.PublishFile(ctx, "results/table.csv", "table.csv")
	if err != nil {
		return err
	}
	fmt.Printf("published %s: %s\n", second.Path, second.Digest)
	return nil
}
