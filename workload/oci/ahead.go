package oci

import (
	"errors"

	"github.com/perrin-mesh/perrin/workload/runner"
)

// ahead brings an image's layers here, one after another, while those before are
// unpacked.
type ahead struct {
	stop chan struct{}
	done chan struct{} // closed when nothing is fetched any more
	got  []chan fetched
}

type fetched struct {
	path string
	err  error
}

// fetchAhead begins with the first of n layers.
func fetchAhead(slot runner.Slot, n int) *ahead {
	a := &ahead{stop: make(chan struct{}), done: make(chan struct{}), got: make([]chan fetched, n)}
	for i := range a.got {
		a.got[i] = make(chan fetched, 1)
	}
	go func() {
		defer close(a.done)
		for i := range a.got {
			select {
			case <-a.stop:
				return
			default:
			}
			path, err := slot.Layer(i)
			a.got[i] <- fetched{path, err}
			if err != nil {
				return
			}
		}
	}()
	return a
}

// errEnded is returned by layer when nothing is fetched any more.
var errEnded = errors.New("the layer is not wanted any more")

// layer waits for layer i. Those before it must have come.
func (a *ahead) layer(i int) (string, error) {
	select {
	case f := <-a.got[i]:
		return f.path, f.err
	case <-a.done:
	}
	select {
	case f := <-a.got[i]:
		return f.path, f.err
	default:
		return "", errEnded
	}
}

// end returns when nothing is fetched any more; the layer at hand is waited for.
func (a *ahead) end() {
	close(a.stop)
	<-a.done
}
