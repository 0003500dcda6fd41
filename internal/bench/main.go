// Command bench measures what Perrin promises to be fast at, each figure beside
// its limit and, where there is one, beside a rival in the same run:
//
//	make bench
//	go run ./internal/bench -run 'submit|map' -profile /tmp/profiles
//
// The daemons are real processes on loopback with their data on a real disk;
// what is measured in this process instead says so. docs/performance.md tells
// what each line means.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"regexp"
	"syscall"
	"time"

	"github.com/perrin-mesh/perrin/workload/shim"
)

// scenario is one set of lines.
type scenario struct {
	name string
	run  func(context.Context, *bench) error
}

// scenarios in the order in which they run.
var scenarios = []scenario{
	{"submit", submitToStarted},
	{"map", oneMap},
	{"place", placement},
	{"sign", signing},
	{"many", manyWorkloads},
	{"process", nativeStarts},
	{"oci", imageStarts},
	{"wasm", wasmStarts},
	{"mix", mixedLoad},
	{"lend", idleTime},
	{"clear", clearing},
	{"idle", idleAndStorm},
	{"blob", blobTransfer},
	{"cli", commandLine},
	{"sim", simulator},
}

// sizes are how much each scenario does.
type sizes struct {
	submits    int           // workloads of one task, one after another
	mapTasks   int           // tasks of one map
	mapRounds  int           // of which the median counts
	placeTasks int           // tasks placed by the null runner's nodes
	placeNodes int           // nodes in this process
	workloads  int           // separate workloads of one task
	clients    int           // that submit them
	starts     int           // of native programs in sandboxes
	mixRounds  int           // of a mixed load, packed both ways
	mixSteps   int           // of a service in it
	mixBatch   int           // batch tasks in it
	mixWork    int           // turns of a loop of each
	storm      int           // tasks before the memory is looked at again
	blobMiB    int           // of the file that is transferred
	runs       int           // of `perrin run`
	coldRuns   int           // of `perrin run` without a daemon
	simSeconds int           // that are simulated
	simEvents  int           // of the bare event loop
	idle       time.Duration // that an idle mesh is watched
	lendFor    time.Duration // that spare work computes beside an idle owner
}

func fullSizes() sizes {
	return sizes{
		submits: 300, mapTasks: 5000, mapRounds: 3, placeTasks: 10_000, placeNodes: 64, workloads: 1000, clients: 16, starts: 2000,
		mixRounds: 5, mixSteps: 60, mixBatch: 12, mixWork: 60_000, storm: 100_000, blobMiB: 512, runs: 40, coldRuns: 10,
		simSeconds: 10, simEvents: 5_000_000, idle: time.Minute, lendFor: 3 * time.Second,
	}
}

// smallSizes show that everything works, and say nothing about speed.
func smallSizes() sizes {
	return sizes{
		submits: 5, mapTasks: 40, mapRounds: 1, placeTasks: 60, placeNodes: 6, workloads: 12, clients: 4, starts: 12,
		mixRounds: 1, mixSteps: 2, mixBatch: 2, mixWork: 100, storm: 40, blobMiB: 4, runs: 2, coldRuns: 1,
		simSeconds: 1, simEvents: 1000, idle: 200 * time.Millisecond, lendFor: 200 * time.Millisecond,
	}
}

// bench is one run of the program.
type bench struct {
	exe      string // the perrin binary
	tmp      string // for data folders; removed at the end
	sizes    sizes
	cores    int           // that each daemon declares
	args     []string      // further ones of `perrin up`
	profile  string        // a folder for CPU profiles; "" takes none
	profFor  int           // seconds
	patience time.Duration // each scenario waits so long for a quiet machine
	out      *report
}

func main() {
	shim.Main()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	code := run(ctx, os.Args[1:], os.Stdout, os.Stderr)
	stop()
	os.Exit(code)
}

func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	flags := flag.NewFlagSet("bench", flag.ContinueOnError)
	flags.SetOutput(stderr)
	b := &bench{sizes: fullSizes()}
	only := flags.String("run", "", "run the scenarios whose names match this regular expression")
	asJSON := flags.Bool("json", false, "print one JSON document at the end; the table goes to stderr")
	strict := flags.Bool("strict", false, "exit with 1 when a limit is missed")
	small := flags.Bool("small", false, "the smallest sizes: shows that it works, says nothing about speed")
	keep := flags.Bool("keep", false, "keep the data folders with the daemons' logs, and say where they are")
	dir := flags.String("dir", "", "where data folders are made (default the system's temporary folder)")
	flags.StringVar(&b.exe, "perrin", "bin/perrin", "the `binary` to measure")
	flags.IntVar(&b.cores, "cores", 4, "cores that each daemon declares")
	flags.DurationVar(&b.sizes.idle, "idle", b.sizes.idle, "how long an idle mesh is watched")
	flags.IntVar(&b.sizes.storm, "storm", b.sizes.storm, "tasks before the busiest node's memory is looked at")
	flags.StringVar(&b.profile, "profile", "", "write CPU profiles of the daemons to this `folder`")
	flags.IntVar(&b.profFor, "profile-seconds", 5, "how long a profile is taken, from the beginning of a scenario's load")
	flags.DurationVar(&b.patience, "wait", 0, "how long each scenario waits at most for a machine that is otherwise idle")
	if err := flags.Parse(args); err != nil {
		return 2
	}
	if *small {
		b.sizes = smallSizes()
	}
	table := stdout
	if *asJSON {
		table = stderr
	}
	b.out = newReport(table)
	if err := b.measure(ctx, *dir, *only, *keep); err != nil {
		fmt.Fprintln(stderr, "bench:", err)
		return 1
	}
	if *asJSON {
		if err := b.out.writeJSON(stdout); err != nil {
			fmt.Fprintln(stderr, "bench:", err)
			return 1
		}
	}
	if missed := b.out.summary(); *strict && missed > 0 {
		return 1
	}
	return 0
}

// measure runs the scenarios that match. One that fails does not keep the
// others from running.
func (b *bench) measure(ctx context.Context, dir, only string, keep bool) error {
	match, err := regexp.Compile(only)
	if err != nil {
		return err
	}
	if b.exe, err = filepath.Abs(b.exe); err != nil {
		return err
	}
	if _, err := os.Stat(b.exe); err != nil {
		return fmt.Errorf("%w: `make build` makes it", err)
	}
	if b.tmp, err = os.MkdirTemp(dir, "perrin-bench-"); err != nil {
		return err
	}
	defer func() {
		if keep {
			b.out.note("data folders: %s", b.tmp)
			return
		}
		os.RemoveAll(b.tmp)
	}()
	if b.profile != "" {
		if err := os.MkdirAll(b.profile, 0o755); err != nil {
			return err
		}
		b.args = append(b.args, "--pprof")
	}
	b.out.header(machineOf(b.tmp))
	var failed error
	for _, s := range scenarios {
		if !match.MatchString(s.name) || ctx.Err() != nil {
			continue
		}
		if err := awaitQuiet(ctx, b.patience); err != nil {
			return err
		}
		end := b.out.begin(s.name, noiseIn(b.tmp))
		if err := s.run(ctx, b); err != nil {
			failed = errors.Join(failed, fmt.Errorf("%s: %w", s.name, err))
			b.out.note("%s did not finish: %v", s.name, err)
		}
		end()
	}
	return errors.Join(failed, ctx.Err())
}
