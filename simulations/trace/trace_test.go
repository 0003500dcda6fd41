package trace

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/perrin-mesh/perrin/simulations/scenario"
)

const job = "1 %s 5 %s %s -1 -1 4 -1 -1 1 7 1 1 1 -1 -1 -1\n"

func swf(submit, run, processors string) string {
	text := job
	for _, v := range []string{submit, run, processors} {
		text = strings.Replace(text, "%s", v, 1)
	}
	return text
}

func TestRead(t *testing.T) {
	const ms = 1_000_000
	for _, c := range []struct {
		format, text string
		speed        float64
		want         []scenario.Arrival
	}{
		{CSV, "at_s,service_s\n10,0.25\n12.5,1\n", 1, []scenario.Arrival{{At: 0, Tasks: 1, Service: 250 * ms}, {At: 2500 * ms, Tasks: 1, Service: 1000 * ms}}},
		{CSV, "owner,tasks,service_s,at_s,more\nx,3,1,0,?\ny,1,2,60,?\nx,1,0,61,?\n", 10,
			[]scenario.Arrival{{Tasks: 3, Service: 1000 * ms}, {At: 6000 * ms, Tasks: 1, Service: 2000 * ms, Owner: 1}, {At: 6100 * ms, Tasks: 1, Service: 1000}}},
		{AzureFunctions, "app,func,end_timestamp,duration\na,f,9.5,0.5\nb,f,10,5\n", 1, // the second came first
			[]scenario.Arrival{{Tasks: 1, Service: 5000 * ms}, {At: 4000 * ms, Tasks: 1, Service: 500 * ms, Owner: 1}}},
		{SWF, "; a comment\n" + swf("100", "30", "8") + swf("110", "-1", "8") + swf("160", "2", "1"), 1,
			[]scenario.Arrival{{Tasks: 8, Service: 30_000 * ms}, {At: 60_000 * ms, Tasks: 1, Service: 2000 * ms}}},
	} {
		got, err := Read(strings.NewReader(c.text), Options{Format: c.format, Most: 10, Speed: c.speed})
		if err != nil || !slices.Equal(got, c.want) {
			t.Errorf("%s: got %+v, %v; want %+v", c.format, got, err, c.want)
		}
	}
	if got, err := Read(strings.NewReader("at_s,service_s\n1,1\n2,1\n3,1\n"), Options{Format: CSV, Most: 2, Speed: 1}); len(got) != 2 || err != nil {
		t.Errorf("got %+v, %v", got, err)
	}
}

func TestMistakesAreNamed(t *testing.T) {
	for text, want := range map[string]string{
		"":                                   "the header",
		"at_s,service_s\n":                   "no row",
		"at,service_s\n1,2\n":                "the column at_s is missing",
		"at_s,service_s\n1,x\n":              `line 2: service_s: want seconds of 0 or more, got "x"`,
		"at_s,service_s\n1,-1\n":             "line 2: service_s",
		"at_s,service_s\n1,NaN\n":            "line 2: service_s",
		"at_s,service_s\n-1,2\n":             `line 2: at_s: want seconds of 0 or more, got "-1"`,
		"at_s,service_s\n1\n":                "line 2",
		"at_s,service_s\n2,1\n1,1\n":         "line 3: it came 1 s before the one above: sort the trace by time",
		"at_s,service_s,tasks\n2,1,0\n":      "line 2: tasks: want 1 to 10000",
		"at_s,service_s\n0,1\n900000000,1\n": "line 3",
		"at_s,service_s\n0,1\n1,40000000\n":  "line 3: a task takes 4e+07 s, a scenario's at most 31536000 s",
	} {
		if _, err := Read(strings.NewReader(text), Options{Format: CSV, Most: 10, Speed: 1}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: got %v, want %s", text, err, want)
		}
	}
	if _, err := Read(strings.NewReader("1 2 3\n"), Options{Format: SWF, Most: 10, Speed: 1}); err == nil || !strings.Contains(err.Error(), "line 1: 3 fields, a job has 18") {
		t.Errorf("got %v", err)
	}
}

// TestWhatIsWrittenReadsBack wants the workloads to be a scenario's, with the same rows.
func TestWhatIsWrittenReadsBack(t *testing.T) {
	rows, err := Read(strings.NewReader("at_s,service_s,tasks,owner\n0,0.001234,1,a\n1.5,90,12,b\n1.5,3,1,a\n"), Options{Format: CSV, Most: 10, Speed: 1})
	if err != nil {
		t.Fatal(err)
	}
	text := append([]byte("duration: 10s\npeers: 10\nmachines: [{cores: 4}]\n"), workloads("a trace", rows)...)
	s, err := scenario.Parse("a.yaml", text)
	if err != nil {
		t.Fatalf("%v\n%s", err, text)
	}
	if w := &s.Workloads[0]; !slices.Equal(w.Arrivals, rows) || w.Poisson == 0 || w.Name != "a trace" {
		t.Errorf("got %+v, want %+v", w, rows)
	}
}

// TestLongTasksHaveTheTime wants a timeout where tasks need more than the default's
// 10 minutes, and none that the product refuses.
func TestLongTasksHaveTheTime(t *testing.T) {
	const second, hour = int64(1e9), 3600 * int64(1e9)
	for service, want := range map[int64]string{
		150 * second: "", 151 * second: "timeout: 3600s\n", hour: "timeout: 14400s\n", 300 * 24 * hour: "timeout: 2592000s\n",
	} {
		text := string(workloads("t", []scenario.Arrival{{Tasks: 1, Service: second}, {Tasks: 1, Service: service}}))
		if want == "" && strings.Contains(text, "timeout") || !strings.Contains(text, want) {
			t.Errorf("tasks of %d s:\n%s", service/second, text)
		}
		if _, err := scenario.Parse("a.yaml", []byte("duration: 10s\npeers: 10\nmachines: [{cores: 4}]\n"+text)); err != nil {
			t.Error(err)
		}
	}
}

// FuzzRead wants what is read to be arrivals that a scenario takes.
func FuzzRead(f *testing.F) {
	for i, text := range samples {
		f.Add(text, i)
	}
	f.Add("at_s,service_s\n1,2\n3,4\n", 0)
	f.Add("app,func,end_timestamp,duration\na,b,3,4\n", 1)
	f.Add(swf("1", "2", "3"), 2)
	f.Add("at_s,service_s,tasks,owner\n1e9,0,9,\"x\ny\"\n", 0)
	f.Fuzz(func(t *testing.T, text string, format int) {
		if format < 0 || format >= len(Formats) || len(text) > 1<<16 {
			return
		}
		rows, err := Read(strings.NewReader(text), Options{Format: Formats[format], Most: 50, Speed: 2})
		if err != nil || rows[len(rows)-1].At >= int64(365*24*time.Hour) { // longer than a scenario
			return
		}
		whole := append([]byte("duration: 8760h\ninterval: 24h\npeers: 10\nmachines: [{cores: 4}]\n"), workloads("t", rows)...)
		if s, err := scenario.Parse("a.yaml", whole); err != nil || len(s.Workloads[0].Arrivals) != len(rows) {
			t.Errorf("%q becomes %v\n%s", text, err, whole)
		}
	})
}

// workloads are arrivals as a scenario's file has them.
func workloads(name string, rows []scenario.Arrival) []byte {
	s := NewStream(name, rows)
	return s.YAML()
}
