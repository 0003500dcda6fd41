package scenario

import (
	"math"
	"strconv"
	"strings"

	"github.com/perrin-mesh/perrin/simulations/chance"
	"github.com/perrin-mesh/perrin/workload/specfile"
	"github.com/perrin-mesh/perrin/workload/specfile/document"
)

// arrivals reads a trace: AT TASKS SERVICE [OWNER] in each item, in order.
func (r *reader) arrivals(n *document.Node, w *Workloads) {
	items := r.list("workloads.arrivals", n, MaxArrivals)
	if len(items) == 0 {
		r.fail(n.Pos, "write arrivals: [250ms 4 2s]", "workloads.arrivals: want one or more")
		return
	}
	var tasks, service float64
	for _, item := range items {
		a, ok := arrival(item.Text)
		switch {
		case !ok:
			r.fail(item.Pos, "write 250ms 4 2s, or 250ms 4 2s 7", "workloads.arrivals: want AT TASKS SERVICE and perhaps OWNER, got %s", shown(item))
			return
		case len(w.Arrivals) > 0 && a.At < w.Arrivals[len(w.Arrivals)-1].At:
			r.fail(item.Pos, "sort them by time", "workloads.arrivals: it comes before the one above")
			return
		}
		w.Arrivals = append(w.Arrivals, a)
		tasks, service = tasks+float64(a.Tasks), service+float64(a.Tasks)*float64(a.Service)
	}
	count := float64(len(w.Arrivals))
	over := float64(w.Arrivals[len(w.Arrivals)-1].At-w.Arrivals[0].At)/float64(second) + 1/count
	w.Poisson = max(int64(math.Round(min(1000*count/over, 1e12))), 1)
	w.Tasks, w.Service = int(math.Ceil(tasks/count)), chance.Always(int64(math.Round(service/tasks)))
}

func arrival(text string) (a Arrival, ok bool) {
	f := strings.Fields(text)
	if len(f) != 3 && len(f) != 4 {
		return a, false
	}
	at, err := specfile.ParseDuration(f[0])
	tasks, err2 := strconv.Atoi(f[1])
	service, err3 := specfile.ParseDuration(f[2])
	if len(f) == 4 {
		var err error
		if a.Owner, err = strconv.Atoi(f[3]); err != nil || a.Owner < 0 {
			return a, false
		}
	}
	a.At, a.Tasks, a.Service = int64(at), tasks, int64(service)
	return a, err == nil && err2 == nil && err3 == nil && a.At >= 0 && a.At <= MaxAt && tasks >= 1 && tasks <= MaxTasks && a.Service > 0 && a.Service <= MaxService
}
