package node

import (
	"io"
	"os/exec"
	"testing"
	"time"

	"github.com/perrin-mesh/perrin/workload"
)

// TestPublishedOutputIsThereAtOnce holds that the owner sees what a task has
// published while the task still runs.
func TestPublishedOutputIsThereAtOnce(t *testing.T) {
	if _, err := exec.LookPath("curl"); err != nil {
		t.Skip("curl is not here")
	}
	b := embedded(t).Backend()
	sub, err := b.Submit(t.Context(), hostSpec("sh", "-c",
		`echo early | curl -sS --unix-socket $PERRIN_UNIT --data-binary @- 'http://unit/v1/publish?path=first.txt'; sleep 60`))
	if err != nil {
		t.Fatal(err)
	}
	ref := awaitPublished(t, func() []workload.Output {
		tasks, err := b.Tasks(t.Context(), sub.ID, 0, 1)
		if err != nil || len(tasks) != 1 {
			t.Fatalf("%d tasks, %v", len(tasks), err)
		}
		return tasks[0].Published
	})
	r, err := b.OpenBlob(t.Context(), ref)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	if got, err := io.ReadAll(r); err != nil || string(got) != "early\n" {
		t.Errorf("published %q, %v", got, err)
	}
	if err := b.Stop(t.Context(), sub.ID); err != nil {
		t.Fatal(err)
	}
}

func awaitPublished(t *testing.T, look func() []workload.Output) workload.Ref {
	t.Helper()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		if out := look(); len(out) == 1 && out[0].Path == "first.txt" {
			return out[0].Blob
		}
		select {
		case <-tick.C:
		case <-t.Context().Done():
			t.Fatal("nothing was published")
		case <-time.After(20 * time.Second):
			t.Fatal("nothing was published in 20 s")
		}
	}
}
