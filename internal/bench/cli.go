package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"time"
)

// commandLine is what a user waits for who types `perrin run -- true`: with a
// daemon of a mesh of three, with the daemon of a mesh of one, and with none.
func commandLine(ctx context.Context, b *bench) error {
	for _, nodes := range []int{1, 3} {
		if err := withDaemon(ctx, b, nodes); err != nil {
			return err
		}
	}
	took, err := runTrue(ctx, b, b.sizes.coldRuns, nil)
	if err != nil {
		return err
	}
	b.out.spread("perrin run -- true, no daemon", took, 600, 0)
	return nil
}

func withDaemon(ctx context.Context, b *bench, nodes int) error {
	m, err := b.start(ctx, nodes)
	if err != nil {
		return err
	}
	defer m.Stop()
	socket := m.Members[(m.leader+1)%nodes].Socket
	took, err := runTrue(ctx, b, b.sizes.runs, []string{"PERRIN_SOCKET=" + socket})
	if err != nil {
		return err
	}
	b.out.spread(fmt.Sprintf("perrin run -- true, a daemon of a mesh of %d", nodes), took, 60, 0)
	return nil
}

// runTrue runs the command as often as asked, once more before that, in a home
// without settings.
func runTrue(ctx context.Context, b *bench, runs int, env []string) (took []float64, err error) {
	home := filepath.Join(b.tmp, "home")
	if err := os.MkdirAll(home, 0o755); err != nil {
		return nil, err
	}
	for i := range runs + 1 {
		cmd := exec.CommandContext(ctx, b.exe, "run", "--", "true")
		cmd.Dir = home
		cmd.Env = append([]string{"HOME=" + home, "PATH=" + os.Getenv("PATH"), "XDG_RUNTIME_DIR=" + home, "XDG_DATA_HOME=" + home}, env...)
		began := time.Now()
		if out, err := cmd.CombinedOutput(); err != nil {
			return nil, fmt.Errorf("perrin run: %w: %s", err, out)
		}
		if i > 0 {
			took = append(took, millis(time.Since(began)))
		}
	}
	return took, nil
}
