package history

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"regexp"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/perrin-mesh/perrin/node/api"
	"github.com/perrin-mesh/perrin/workload"
)

// History is what clients did to a cluster and were told. Its methods are safe
// for concurrent use.
type History struct {
	c   *Cluster
	rec *Recorder

	mu   sync.Mutex
	jobs []*Job
}

// NewHistory returns an empty history.
func NewHistory(c *Cluster) *History { return &History{c: c, rec: NewRecorder()} }

// patience is how long a client waits for an answer.
const patience = 3 * time.Second

// ask runs f with a client of a member.
func (h *History) ask(ctx context.Context, member int, patience time.Duration, f func(context.Context, *api.Client) error) error {
	client, err := h.c.Dial(member)
	if err != nil {
		return err
	}
	defer client.Close()
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	return f(ctx, client)
}

// Submit submits a job at its home. The error is what the client was told.
func (h *History) Submit(ctx context.Context, client int, j *Job) error {
	h.mu.Lock()
	h.jobs = append(h.jobs, j)
	h.mu.Unlock()
	end := h.rec.Begin(client, Submit, j.Key)
	err := h.ask(ctx, j.Home, patience, func(ctx context.Context, c *api.Client) error {
		sub, err := c.Submit(ctx, j.Spec)
		if err == nil {
			end(Answer{})
			j.acknowledged(sub.ID)
		}
		return err
	})
	return err
}

// hasEnded finds in a refused stop how the workload had ended.
var hasEnded = regexp.MustCompile(`has ended as (\w+)`)

// StopJob stops a job whose ID is known.
func (h *History) StopJob(ctx context.Context, client int, j *Job) error {
	id, _ := j.named()
	if id.IsZero() {
		return nil
	}
	j.stopAsked()
	end := h.rec.Begin(client, Stop, j.Key)
	err := h.ask(ctx, j.Home, patience, func(ctx context.Context, c *api.Client) error { return c.Stop(ctx, id) })
	switch kind := api.KindOf(err); {
	case err == nil:
		end(Answer{})
	case kind == api.NotFound:
		end(Answer{Absent: true})
	case kind == api.Refused && hasEnded.MatchString(err.Error()):
		end(Answer{Refused: true, Phase: workload.Phase(hasEnded.FindStringSubmatch(err.Error())[1])})
	}
	return err
}

// Look reads a job by its label, which also finds one whose ID nobody was told.
func (h *History) Look(ctx context.Context, client, member int, j *Job, patience time.Duration) (w *api.Workload, err error) {
	err = h.read(ctx, client, member, j, patience, func(ctx context.Context, c *api.Client) (*api.Workload, error) {
		list, err := c.List(ctx, true, map[string]string{keyLabel: j.Key})
		switch {
		case err != nil:
			return nil, err
		case len(list) == 0:
			return nil, nil
		case len(list) > 1:
			return nil, fmt.Errorf("%w: %s was accepted %d times", errDoubled, j.Key, len(list))
		}
		w = &list[0]
		return w, nil
	})
	return w, err
}

// errDoubled says that one submission became several workloads.
var errDoubled = errors.New("doubled")

// Inspect reads a job by its ID; since as Wait does when it is not 0.
func (h *History) Inspect(ctx context.Context, client, member int, j *Job, wait time.Duration) error {
	id, _ := j.named()
	if id.IsZero() {
		return nil
	}
	return h.read(ctx, client, member, j, wait+patience, func(ctx context.Context, c *api.Client) (*api.Workload, error) {
		if wait == 0 {
			return c.Inspect(ctx, id)
		}
		w, err := c.Inspect(ctx, id)
		if err != nil {
			return nil, err
		}
		return c.Wait(ctx, id, w.Version, wait)
	})
}

// read records one read, which gives no workload where there is none.
func (h *History) read(ctx context.Context, client, member int, j *Job, patience time.Duration, get func(context.Context, *api.Client) (*api.Workload, error)) error {
	end := h.rec.Begin(client, Read, j.Key)
	err := h.ask(ctx, member, patience, func(ctx context.Context, c *api.Client) error {
		w, err := get(ctx, c)
		switch {
		case api.KindOf(err) == api.NotFound, err == nil && w == nil:
			end(Answer{Absent: true})
			return nil
		case err == nil:
			j.mu.Lock()
			j.id = w.ID
			j.mu.Unlock()
			end(Answer{Phase: w.Phase, Closed: w.Tasks.Done + w.Tasks.Failed, Version: w.Version})
		}
		return err
	})
	if err != nil {
		h.rec.drop(Read, j.Key, client)
	}
	return err
}

// Jobs returns what was submitted so far.
func (h *History) Jobs() []*Job {
	h.mu.Lock()
	defer h.mu.Unlock()
	return append([]*Job{}, h.jobs...)
}

// Drive lets clients submit, stop and read until ctx ends, at most submits
// workloads each. What they do follows from the seed; what they are told does not.
func (h *History) Drive(ctx context.Context, seed uint64, clients, submits int) error {
	all, ctx := errgroup.WithContext(ctx)
	for client := range clients {
		rng := rand.New(rand.NewPCG(seed, uint64(client)))
		all.Go(func() error { return h.drive(ctx, rng, client, submits) })
	}
	return all.Wait()
}

func (h *History) drive(ctx context.Context, rng *rand.Rand, client, submits int) error {
	made := 0
	for pause(ctx, time.Duration(30+rng.IntN(170))*time.Millisecond) {
		jobs := h.Jobs()
		if len(jobs) == 0 || made < submits && rng.IntN(4) == 0 {
			made++
			_ = h.Submit(ctx, client, h.someJob(rng, fmt.Sprintf("c%d-%d", client, made))) // recorded
			continue
		}
		j := jobs[max(0, len(jobs)-1-rng.IntN(12))]
		member := rng.IntN(h.c.Size())
		var err error
		switch rng.IntN(8) {
		case 0:
			_ = h.StopJob(ctx, client, j) // recorded
		case 1:
			err = h.Inspect(ctx, client, member, j, time.Second)
		case 2, 3:
			err = h.Inspect(ctx, client, member, j, 0)
		default:
			_, err = h.Look(ctx, client, member, j, patience)
		}
		if errors.Is(err, errDoubled) {
			return err
		}
	}
	return nil
}

// someJob draws one of the kinds of workloads.
func (h *History) someJob(rng *rand.Rand, key string) *Job {
	home, secs := rng.IntN(h.c.Size()), 0.2+3*rng.Float64()
	switch rng.IntN(5) {
	case 0:
		return newJob(key, home, 4, "sleep 0.5")
	case 1:
		return newJob(key, home, 1, "").failing(3)
	}
	return newJob(key, home, 1, fmt.Sprintf("sleep %.1f", secs))
}

// endedWithin bounds how long an acknowledged workload may take to end once the
// cluster is whole.
const endedWithin = time.Minute

// Settle reads every job, after the cluster was repaired, until it has ended as
// its spec says.
func (h *History) Settle(ctx context.Context) ([]Finding, error) {
	var found []Finding
	for i, j := range h.Jobs() {
		judged, err := h.settle(ctx, j, i%h.c.Size())
		if err != nil {
			return found, err
		}
		found = append(found, judged...)
	}
	return found, nil
}

// settler is the client that reads at the end.
const settler = 1000

func (h *History) settle(ctx context.Context, j *Job, member int) ([]Finding, error) {
	var w *api.Workload
	var err error
	ended := await(ctx, endedWithin, j.Key+" ends", func() bool {
		w, err = h.Look(ctx, settler, member, j, 20*time.Second)
		return err == nil && (w == nil || w.Phase.Ended()) || errors.Is(err, errDoubled)
	})
	_, acked := j.named()
	switch {
	case errors.Is(err, errDoubled):
		return []Finding{{CheckOutcome, err.Error()}}, nil
	case err != nil:
		return nil, fmt.Errorf("%s: %w", j.Key, err)
	case w == nil && acked: // the model sees the same
		return []Finding{{CheckOutcome, j.Key + " was acknowledged, and is not there"}}, nil
	case w == nil:
		return nil, nil
	case ended != nil:
		return []Finding{{CheckOutcome, fmt.Sprintf("%s (%s) does not end: %s, tasks %+v", j.Key, w.ID, w.Phase, w.Tasks)}}, nil
	}
	var tasks []api.Task
	err = h.ask(ctx, member, 20*time.Second, func(ctx context.Context, c *api.Client) (err error) {
		tasks, err = c.Tasks(ctx, w.ID, 0, j.Spec.Tasks.Count)
		return err
	})
	if err != nil {
		return []Finding{{CheckOutcome, fmt.Sprintf("%s (%s): its results: %v", j.Key, w.ID, err)}}, nil
	}
	return j.judge(w, tasks), nil
}

// Check is all that is found once the daemons have stopped: the clients' history
// and the supervisors' records.
func (h *History) Check(ctx context.Context) ([]Finding, error) {
	attempts, found, err := h.c.Attempts(ctx)
	if err != nil {
		return nil, err
	}
	single := map[string]bool{}
	for _, j := range h.Jobs() {
		id, _ := j.named()
		single[id.String()] = j.Spec.Tasks.Count == 1 && j.Spec.OnPartition != workload.Continue
	}
	found = append(found, Overlaps(attempts, func(id string) bool { return single[id] })...)
	return append(found, Linearizable(h.rec.Ops())...), nil
}
