package node

import (
	"context"
	"log/slog"
	"time"

	"github.com/perrin-mesh/perrin/node/worker"
	"github.com/perrin-mesh/perrin/workload/runner"
)

type supervisor interface {
	worker.Supervisor
	Close() error
}

type noSup struct{}

func (noSup) Watch(string, runner.Proc, time.Duration) error { return nil }
func (noSup) Extend(string, time.Duration) error             { return nil }
func (noSup) Forget(string) error                            { return nil }
func (noSup) Close() error                                   { return nil }

func startSupervisor(context.Context, *slog.Logger) (supervisor, error) { return noSup{}, nil }
