package trace

import (
	"bytes"
	"os"
	"strings"
	"testing"

	"github.com/perrin-mesh/perrin/simulations/parquet"
	"github.com/perrin-mesh/perrin/simulations/scenario"
)

// tasksFile is a table of tasks, each a row of at, duration and CPUs.
func tasksFile(t testing.TB, tasks ...[3]int64) []byte {
	t.Helper()
	var b bytes.Buffer
	w, err := parquet.NewWriter(&b, []parquet.Field{{Name: openSubmitted, Kind: parquet.Int64}, {Name: openTook, Kind: parquet.Int64}, {Name: openCPUs, Kind: parquet.Int32}})
	if err != nil {
		t.Fatal(err)
	}
	for _, task := range tasks {
		for i, v := range task {
			w.Int(i, v)
		}
		if err := w.Row(); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// TestOpenDC reads tasks that are not in order, in a file as OpenDC writes it too.
func TestOpenDC(t *testing.T) {
	o := Options{Format: OpenDC, Most: 1000, Speed: 1}
	got, err := Read(bytes.NewReader(tasksFile(t, [3]int64{1376314846000, 2500, 2}, [3]int64{1376314845500, 10, 1})), o)
	want := []scenario.Arrival{{Tasks: 1, Service: 10_000_000}, {At: 500_000_000, Tasks: 2, Service: 2_500_000_000}}
	if err != nil || len(got) != 2 || got[0] != want[0] || got[1] != want[1] {
		t.Errorf("%+v, %v; want %+v", got, err, want)
	}
	theirs, err := os.ReadFile("../parquet/testdata/opendc-zstd-v2.parquet")
	if err != nil {
		t.Fatal(err)
	}
	if got, err = Read(bytes.NewReader(theirs), o); err != nil || len(got) != 300 || got[299].At != 299*60*second {
		t.Errorf("%d arrivals, %v", len(got), err)
	}
	for want, data := range map[string][]byte{
		"not a Parquet file": []byte("a,b\n1,2\n"),
		"the column submission_time is missing; the file has id, name, submission_tume": bytes.ReplaceAll(theirs, []byte("submission_time"), []byte("submission_tume")),
		"row 1: duration: want ms of 0 or more, got -1":                                 tasksFile(t, [3]int64{0, -1, 1}),
		"row 2: cpu_count: want 1 to 10000, got 0":                                      tasksFile(t, [3]int64{0, 1, 1}, [3]int64{0, 1, 0}),
		"row 1: submission_time: want a time":                                           tasksFile(t, [3]int64{1 << 62, 1, 1}),
		"line 2: it comes more than ten years after the first":                          tasksFile(t, [3]int64{0, 1, 1}, [3]int64{1e12, 1, 1}),
		"line 1: a task takes 1e+08 s, a scenario's at most 31536000 s":                 tasksFile(t, [3]int64{0, 1e11, 1}),
		"the trace has no row":                                                          tasksFile(t),
	} {
		if _, err := Read(bytes.NewReader(data), o); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %s", err, want)
		}
	}
}

// FuzzOpenDC wants arrivals in order.
func FuzzOpenDC(f *testing.F) {
	f.Add(tasksFile(f, [3]int64{5, 1, 1}, [3]int64{2, 3, 4}))
	f.Add([]byte("PAR1PAR1PAR1"))
	f.Fuzz(func(t *testing.T, data []byte) {
		if rows, err := readOpenDC(bytes.NewReader(data)); err == nil {
			for _, r := range rows {
				if r.tasks < 1 || !(r.service >= 0) {
					t.Errorf("%+v", r)
				}
			}
		}
	})
}
