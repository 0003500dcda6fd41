package consensus

import (
	"context"
	"fmt"
	"io"
	"log"
	"log/slog"

	"github.com/hashicorp/go-hclog"
)

// raftLog gives the library's messages to slog, one step quieter than it means
// them: what it calls an error is mostly a peer that is away, and what it calls
// information is of interest to its own authors.
type raftLog struct {
	log  *slog.Logger
	name string
	args []any
}

var _ hclog.Logger = raftLog{}

func slogLevel(l hclog.Level) slog.Level {
	switch l {
	case hclog.Error, hclog.Warn:
		return slog.LevelWarn
	default:
		return slog.LevelDebug
	}
}

// Log writes one message.
func (l raftLog) Log(level hclog.Level, msg string, args ...any) {
	to := slogLevel(level)
	if !l.log.Enabled(context.Background(), to) {
		return
	}
	plain := make([]any, len(args))
	for i, a := range args {
		if f, ok := a.(hclog.Format); ok && len(f) > 0 {
			a = fmt.Sprintf(fmt.Sprint(f[0]), f[1:]...)
		}
		plain[i] = a
	}
	l.log.Log(context.Background(), to, "raft: "+msg, plain...)
}

func (l raftLog) Trace(string, ...any)          {}
func (l raftLog) Debug(msg string, args ...any) { l.Log(hclog.Debug, msg, args...) }
func (l raftLog) Info(msg string, args ...any)  { l.Log(hclog.Info, msg, args...) }
func (l raftLog) Warn(msg string, args ...any)  { l.Log(hclog.Warn, msg, args...) }
func (l raftLog) Error(msg string, args ...any) { l.Log(hclog.Error, msg, args...) }

func (l raftLog) IsTrace() bool { return false }
func (l raftLog) IsDebug() bool { return l.enabled(hclog.Debug) }
func (l raftLog) IsInfo() bool  { return l.enabled(hclog.Info) }
func (l raftLog) IsWarn() bool  { return l.enabled(hclog.Warn) }
func (l raftLog) IsError() bool { return l.enabled(hclog.Error) }

func (l raftLog) enabled(level hclog.Level) bool {
	return l.log.Enabled(context.Background(), slogLevel(level))
}

func (l raftLog) ImpliedArgs() []any { return l.args }
func (l raftLog) Name() string       { return l.name }

// With adds attributes to every message.
func (l raftLog) With(args ...any) hclog.Logger {
	return raftLog{log: l.log.With(args...), name: l.name, args: append(l.args[:len(l.args):len(l.args)], args...)}
}

// Named names the part of the library.
func (l raftLog) Named(name string) hclog.Logger { return l.ResetNamed(name) }

// ResetNamed names the part of the library.
func (l raftLog) ResetNamed(name string) hclog.Logger {
	return raftLog{log: l.log, name: name, args: l.args}
}

func (l raftLog) SetLevel(hclog.Level) {}

// GetLevel returns the lowest level that is written.
func (l raftLog) GetLevel() hclog.Level {
	if l.IsDebug() {
		return hclog.Debug
	}
	return hclog.Warn
}

// StandardLogger returns a logger of the standard library.
func (l raftLog) StandardLogger(*hclog.StandardLoggerOptions) *log.Logger {
	return slog.NewLogLogger(l.log.Handler(), slog.LevelDebug)
}

// StandardWriter returns the writer of such a logger.
func (l raftLog) StandardWriter(o *hclog.StandardLoggerOptions) io.Writer {
	return l.StandardLogger(o).Writer()
}
