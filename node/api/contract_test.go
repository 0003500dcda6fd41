package api_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/perrin-mesh/perrin/node/api"
	"github.com/perrin-mesh/perrin/node/api/apitest"
	"github.com/perrin-mesh/perrin/workload"
)

var programs = map[string]apitest.Program{
	"echo": func(_ context.Context, c *apitest.Call) int {
		fmt.Fprintln(c.Stdout, strings.Join(c.Args, " "))
		return 0
	},
	"cat": func(_ context.Context, c *apitest.Call) int {
		io.Copy(c.Stdout, c.Stdin)
		fmt.Fprint(c.Stderr, "done")
		return 3
	},
	"hang": func(ctx context.Context, c *apitest.Call) int {
		fmt.Fprint(c.Stdout, "hanging")
		<-ctx.Done()
		return 0
	},
	"deaf": func(ctx context.Context, c *apitest.Call) int { <-ctx.Done(); return 0 },
	"leave": func(_ context.Context, c *apitest.Call) int {
		c.Output["a.txt"] = []byte("small")
		c.Output["b.txt"] = bytes.Repeat([]byte("large"), 1000)
		return 0
	},
}

// serve starts a server of b and returns a client of it.
func serve(t *testing.T, b api.Backend, opt api.Options) *api.Client {
	t.Helper()
	socket := filepath.Join(t.TempDir(), "s")
	ln, err := api.Listen(socket, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- api.NewServer(b, slog.New(slog.DiscardHandler), opt).Serve(ctx, ln) }()
	c, err := api.Dial(socket)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		c.Close()
		cancel()
		if err := <-done; err != nil {
			t.Errorf("serve: %v", err)
		}
		if _, err := os.Lstat(socket); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("the socket is still there: %v", err)
		}
	})
	return c
}

func host(name string, args ...string) workload.Spec {
	s := workload.DefaultSpec()
	s.Program = workload.Program{Kind: workload.Process, Name: name, Host: name}
	s.Args = args
	return s
}

// finished submits a spec and waits for its end.
func finished(t *testing.T, b api.Backend, s workload.Spec) workload.ID {
	t.Helper()
	sub, err := b.Submit(t.Context(), s)
	if err != nil {
		t.Fatal(err)
	}
	for w := (&api.Workload{}); !w.Phase.Ended(); {
		if w, err = b.Wait(t.Context(), sub.ID, api.UntilEnd, time.Minute); err != nil {
			t.Fatal(err)
		}
	}
	return sub.ID
}

// TestClientAnswersAsTheBackendDoes makes each call on a backend and on a
// client of it and compares what comes back, errors included.
func TestClientAnswersAsTheBackendDoes(t *testing.T) {
	fake := apitest.New(programs)
	client := serve(t, fake, api.Options{})
	id := finished(t, fake, host("leave"))
	echo := host("echo", "hi")
	echo.Name, echo.Labels = "greet", map[string]string{"a": "b=c"}
	greet := finished(t, fake, echo)
	missing := workload.ID{Cell: apitest.Cell}
	ctx := t.Context()
	calls := map[string]func(b api.Backend) (any, error){
		"status":          func(b api.Backend) (any, error) { return b.Status(ctx, false) },
		"status stats":    func(b api.Backend) (any, error) { return b.Status(ctx, true) },
		"nodes":           func(b api.Backend) (any, error) { return b.Nodes(ctx, "") },
		"nodes found":     func(b api.Backend) (any, error) { return b.Nodes(ctx, "cores>=8 && zone==attic") },
		"attest":          func(b api.Backend) (any, error) { return b.Attest(ctx, "ben") },
		"picture":         func(b api.Backend) (any, error) { return b.Picture(ctx, "attic") },
		"picture none":    func(b api.Backend) (any, error) { return b.Picture(ctx, "nothing") },
		"resolve prefix":  func(b api.Backend) (any, error) { return b.Resolve(ctx, id.Short()) },
		"resolve name":    func(b api.Backend) (any, error) { return b.Resolve(ctx, "greet") },
		"resolve none":    func(b api.Backend) (any, error) { return b.Resolve(ctx, "nothing") },
		"list":            func(b api.Backend) (any, error) { return b.List(ctx, true, nil) },
		"list labels":     func(b api.Backend) (any, error) { return b.List(ctx, true, map[string]string{"a": "b=c"}) },
		"inspect":         func(b api.Backend) (any, error) { return b.Inspect(ctx, greet) },
		"inspect none":    func(b api.Backend) (any, error) { return b.Inspect(ctx, missing) },
		"wait":            func(b api.Backend) (any, error) { return b.Wait(ctx, id, 0, time.Second) },
		"wait none":       func(b api.Backend) (any, error) { return b.Wait(ctx, missing, 0, time.Second) },
		"tasks":           func(b api.Backend) (any, error) { return b.Tasks(ctx, id, 0, 10) },
		"tasks none":      func(b api.Backend) (any, error) { return b.Tasks(ctx, missing, 0, 10) },
		"why":             func(b api.Backend) (any, error) { return b.Why(ctx, id, nil) },
		"why task":        func(b api.Backend) (any, error) { return b.Why(ctx, id, new(uint32)) },
		"receipt":         func(b api.Backend) (any, error) { return b.Receipt(ctx, id) },
		"audit":           func(b api.Backend) (any, error) { return b.Audit(ctx, id.Cell) },
		"stop none":       func(b api.Backend) (any, error) { return nil, b.Stop(ctx, missing) },
		"invite":          func(b api.Backend) (any, error) { return b.Invite(ctx, 2, time.Hour) },
		"invite bad":      func(b api.Backend) (any, error) { return b.Invite(ctx, 0, time.Hour) },
		"config":          func(b api.Backend) (any, error) { return b.Config(), nil },
		"submit bad":      func(b api.Backend) (any, error) { return b.Submit(ctx, workload.Spec{}) },
		"attach none":     func(b api.Backend) (any, error) { return nil, b.Attach(ctx, missing, api.AttachOptions{}) },
		"attach bad task": func(b api.Backend) (any, error) { return nil, b.Attach(ctx, id, api.AttachOptions{Task: 7}) },
		"metrics": func(b api.Backend) (any, error) {
			var buf bytes.Buffer
			err := b.Metrics(&buf)
			return buf.String(), err
		},
		"blob":  func(b api.Backend) (any, error) { return roundTrip(ctx, b, []byte("some content")) },
		"empty": func(b api.Backend) (any, error) { return roundTrip(ctx, b, nil) },
		"blob none": func(b api.Backend) (any, error) {
			_, err := b.OpenBlob(ctx, workload.Ref{Digest: workload.DigestOf([]byte("?"))})
			return nil, err
		},
	}
	for name, call := range calls {
		t.Run(name, func(t *testing.T) {
			want, wantErr := call(fake)
			got, gotErr := call(client)
			if !reflect.DeepEqual(api.AsError(wantErr), api.AsError(gotErr)) {
				t.Errorf("error %#v, want %#v", api.AsError(gotErr), api.AsError(wantErr))
			}
			if wantErr == nil && !reflect.DeepEqual(got, want) {
				t.Errorf("got  %+v\nwant %+v", got, want)
			}
		})
	}
}

// roundTrip stores content and reads it back in two halves, the second first.
func roundTrip(ctx context.Context, b api.Backend, content []byte) (any, error) {
	ref, err := b.PutBlob(ctx, bytes.NewReader(content))
	if err != nil {
		return nil, err
	}
	r, err := b.OpenBlob(ctx, ref)
	if err != nil {
		return nil, err
	}
	defer r.Close()
	half := int64(len(content) / 2)
	if _, err := r.Seek(half, io.SeekStart); err != nil {
		return nil, err
	}
	end, err := io.ReadAll(r)
	if err != nil {
		return nil, err
	}
	if _, err := r.Seek(-int64(len(content)), io.SeekEnd); err != nil {
		return nil, err
	}
	begin, err := io.ReadAll(io.LimitReader(r, half))
	return fmt.Sprintf("%v %q %q", ref, begin, end), err
}

func TestAttachStreamsBothWays(t *testing.T) {
	client := serve(t, apitest.New(programs), api.Options{})
	spec := host("cat")
	spec.Interactive = true
	sub, err := client.Submit(t.Context(), spec)
	if err != nil {
		t.Fatal(err)
	}
	input := bytes.Repeat([]byte("0123456789abcdef"), 100_000) // beyond the credit
	var stdout, stderr bytes.Buffer
	err = client.Attach(t.Context(), sub.ID, api.AttachOptions{Follow: true, Stdin: bytes.NewReader(input), Stdout: &stdout, Stderr: &stderr})
	if err != nil || !bytes.Equal(stdout.Bytes(), input) || stderr.String() != "done" {
		t.Fatalf("err %v, %d bytes of %d on stdout, stderr %q", err, stdout.Len(), len(input), stderr.String())
	}
	tasks, err := client.Tasks(t.Context(), sub.ID, 0, 1)
	if err != nil || tasks[0].Result.ExitCode() != 3 {
		t.Fatalf("exit code 3 expected: %+v, %v", tasks, err)
	}
}

// TestAttachEndsWithItsClient holds that the daemon notices a client that goes
// away although the program never reads what the client has sent.
func TestAttachEndsWithItsClient(t *testing.T) {
	ended := make(chan error, 1)
	client := serve(t, &watched{Fake: apitest.New(programs), ended: ended}, api.Options{})
	spec := host("deaf")
	spec.Interactive = true
	sub, err := client.Submit(t.Context(), spec)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	endless, feed := io.Pipe()
	defer endless.Close()
	attached := make(chan error, 1)
	go func() {
		attached <- client.Attach(ctx, sub.ID, api.AttachOptions{Follow: true, Stdin: endless})
	}()
	for range 8 { // fills the credit: the last write returns when all was taken
		feed.Write(make([]byte, 32<<10))
	}
	cancel()
	if err := <-attached; !errors.Is(err, context.Canceled) {
		t.Errorf("client: %v, want canceled", err)
	}
	if err := <-ended; !errors.Is(err, context.Canceled) {
		t.Errorf("daemon: %v, want canceled", err)
	}
	if err := client.Stop(t.Context(), sub.ID); err != nil {
		t.Fatal(err)
	}
}

type watched struct {
	*apitest.Fake
	ended chan error
}

func (w *watched) Attach(ctx context.Context, id workload.ID, opt api.AttachOptions) error {
	err := w.Fake.Attach(ctx, id, opt)
	w.ended <- err
	return err
}

func TestListenReplacesOnlyTheDead(t *testing.T) {
	path := filepath.Join(t.TempDir(), "new", "s")
	ln, err := api.Listen(path, 0o660)
	if err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o660 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
	if _, err := api.Listen(path, 0o600); api.KindOf(err) != api.Exists {
		t.Errorf("a live socket: %v, want kind exists", err)
	}
	ln.Close()

	stale, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	stale.SetUnlinkOnClose(false)
	stale.Close()
	again, err := api.Listen(path, 0o600)
	if err != nil {
		t.Fatalf("a stale socket: %v", err)
	}
	again.Close()

	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := api.Listen(path, 0o600); api.KindOf(err) != api.Exists {
		t.Errorf("a file: %v, want kind exists", err)
	}
	if _, err := api.Listen("/"+strings.Repeat("x", 120), 0o600); api.KindOf(err) != api.Invalid {
		t.Errorf("a long path: %v, want kind invalid", err)
	}
}

func TestDialSaysThatNobodyIsThere(t *testing.T) {
	_, err := api.Dial(filepath.Join(t.TempDir(), "none"))
	if !errors.Is(err, api.ErrNoDaemon) || api.KindOf(err) != api.Unavailable {
		t.Errorf("%v, kind %s", err, api.KindOf(err))
	}
}

func TestClientKeepsItsOwnReadError(t *testing.T) {
	client := serve(t, apitest.New(programs), api.Options{})
	broken := errors.New("disk on fire")
	_, err := client.PutBlob(t.Context(), io.MultiReader(strings.NewReader("x"), &failing{broken}))
	if !errors.Is(err, broken) {
		t.Errorf("%v, want %v", err, broken)
	}
}

type failing struct{ err error }

func (f *failing) Read([]byte) (int, error) { return 0, f.err }

// TestSmallResultsStayApart holds that what tasks printed is not mixed up on the
// way, also where it has no blob of its own.
func TestSmallResultsStayApart(t *testing.T) {
	client := serve(t, apitest.New(programs), api.Options{})
	spec := host("echo")
	spec.Tasks = workload.Tasks{Count: 3, Inline: []workload.Task{{Args: []string{"one"}}, {Args: []string{"two"}}, {Args: []string{"three"}}}}
	tasks, err := client.Tasks(t.Context(), finished(t, client, spec), 0, 10)
	if err != nil || len(tasks) != 3 {
		t.Fatalf("%d tasks, %v", len(tasks), err)
	}
	for i, want := range []string{"one\n", "two\n", "three\n"} {
		if got := string(tasks[i].Result.Stdout.Data); got != want {
			t.Errorf("task %d printed %q, want %q", i, got, want)
		}
		if got := tasks[i].Result.Stderr.Data; len(got) != 0 {
			t.Errorf("task %d has %q on stderr", i, got)
		}
	}
}
