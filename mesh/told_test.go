package mesh

import (
	"testing"
	"time"

	"github.com/perrin-mesh/perrin/workload"
)

func TestARefusalIsLoggedOnceAPeerAndMinute(t *testing.T) {
	var l told
	now, peer := time.Unix(1e9, 0), workload.PeerID{1}
	said := 0
	for range 300 { // one a second
		unsaid, say := l.again(peer, now)
		if say {
			if said++; said > 1 && unsaid != 59 {
				t.Errorf("%d are left out since the last", unsaid)
			}
		}
		now = now.Add(time.Second)
	}
	if said != 5 {
		t.Errorf("said %d times in five minutes", said)
	}
	if _, say := l.again(workload.PeerID{2}, now); !say {
		t.Error("another peer's is left out")
	}
}

func TestMadeUpKeysDoNotFillTheLog(t *testing.T) {
	var l told
	now, said := time.Unix(1e9, 0), 0
	for i := range 10 * maxTold {
		if _, say := l.again(workload.PeerID{byte(i), byte(i >> 8), 1}, now); say {
			said++
		}
	}
	if said != maxTold || len(l.peers) != maxTold {
		t.Errorf("said %d times, %d peers are kept", said, len(l.peers))
	}
	if _, say := l.again(workload.PeerID{9, 9, 9}, now.Add(tellAgain)); !say || len(l.peers) != 1 {
		t.Errorf("a minute later: said %t, %d peers are kept", say, len(l.peers))
	}
}
