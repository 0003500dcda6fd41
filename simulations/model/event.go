package model

// kind is what an event is about; a, b and c of an event depend on it.
type kind uint8

const (
	_           kind = iota
	arrive           // a: open stream; its next workload comes
	client           // a: closed stream, b: client; it submits
	resend           // a: load; the submission is not acknowledged yet
	deliver          // a: peer, c: message
	handle           // a: peer, c: message that waited for the peer's CPU
	commit           // a: cell, c: proposal
	wake             // a: cell; the desk asked to be stepped
	leaseDesk        // a: cell; leases may be over
	begin            // a: peer, b: slot, c: its generation; the slot has started
	taskEnd          // a: peer, b: slot, c: its generation
	retry            // a: peer, b: slot, c: its generation; the leader has not answered
	offerTick        // a: peer
	offerSoon        // a: peer
	renew            // a: peer, b: cell
	leaseEnd         // a: peer, b: cell
	down             // a: peer, b: its boot; it leaves
	up               // a: peer, b: its boot
	depart           // a: departure of the scenario
	elect            // a: cell, b: term that is over
	sample           // a row of the time series is due
	faultBegins      // a: fault of the scenario
	faultEnds        // a: fault
	giveWay          // a: peer, b: slot, c: its generation; its notice or its patience is over
	askLate          // a: cell, b: cells asked so far, c: inquiry; the sibling has not answered
	chunkAsked       // a: source, b: fetch, c: its generation; somebody wants a chunk
	chunkComes       // a: source, b: fetch, c: its generation; the chunk reaches the line of who wants it
	chunkHere        // a: source, b: fetch, c: its generation
	digestDue        // a: cell; its leader tells other cells of it
	nodesFound       // a: cell, c: inquiry; the DHT has answered
	chunkLost        // a: source, b: fetch, c: its generation; the source has none, or does not answer
	kinds
)

var kindNames = [kinds]string{
	"", "arrive", "client", "resend", "deliver", "handle", "commit", "wake", "lease-desk", "begin", "task-end", "retry",
	"offer-tick", "offer-soon", "renew", "lease-end", "down", "up", "depart", "elect", "sample",
	"fault-begins", "fault-ends", "give-way", "ask-late",
	"chunk-asked", "chunk-comes", "chunk-here", "digest-due", "nodes-found", "chunk-lost",
}

// String returns the kind in a word.
func (k kind) String() string { return kindNames[k] }

type event struct {
	kind kind
	what msgKind // of a message that is delivered or handled
	a, b int32
	c    int32
}

// msgKind is what a message says.
type msgKind uint8

const (
	_ msgKind = iota
	msgSubmit
	msgAck
	msgCall
	msgBid
	msgDecline
	msgRelease
	msgAward
	msgRefused
	msgTake
	msgTaken
	msgClose
	msgClosed
	msgDone
	msgDoneAck
	msgRenew
	msgRenewed
	msgOffer
	msgSuited
	msgSuitedAnswer
	msgDisclaim
	msgDisclaimed
	msgRaft
	msgView
	msgSteal
	msgStolen
	msgHold
	msgHeld
	msgChunk
	msgKinds
)

var msgNames = [msgKinds]string{
	"", "submit", "ack", "call", "bid", "decline", "release", "award", "refused", "take", "taken", "close", "closed", "done",
	"done-ack", "renew", "renewed", "offer", "suited", "suited-answer", "disclaim", "disclaimed", "raft", "view", "steal", "stolen",
	"hold", "held", "chunk",
}

// String returns the kind in a word.
func (m msgKind) String() string { return msgNames[m] }

// msgBytes is what a message takes in QUIC payload, as the product encodes it for
// a workload of one task and no inputs, with 20 bytes of framing. A test holds
// these figures to the product's encodings.
var msgBytes = [msgKinds]int64{
	msgSubmit: 472, msgAck: 53, msgCall: 190, msgBid: 229, msgDecline: 157, msgRelease: 40, msgAward: 913, msgRefused: 38,
	msgTake: 69, msgTaken: 32, msgClose: 461, msgClosed: 24, msgDone: 67, msgDoneAck: 21, msgRenew: 110, msgRenewed: 29,
	msgOffer: 314, msgSuited: 97, msgSuitedAnswer: 1193, msgDisclaim: 74, msgDisclaimed: 27, msgRaft: 700,
	msgSteal: 21, msgStolen: 210, msgHold: 180, msgHeld: 21, msgChunk: 63,
}

// A view of a cell has its five voters with an address each, and its members.
const (
	viewBytes  = 430
	viewMember = 34
)

// signed are messages whose receiver verifies that many signatures.
var signed = [msgKinds]int64{msgSubmit: 1, msgBid: 1, msgAward: 2, msgClose: 1, msgOffer: 1}

// message is on its way between two peers.
type message struct {
	kind     msgKind
	from, to int32
	boot     int32 // of the receiver when it was sent to a slot; 0 is any
	cell     int32
	load     int32
	slot     int32 // of the worker
	gen      int32
	n        int64
	seq      uint32
	body     any
}
