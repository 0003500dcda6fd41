package admission

import "errors"

// The reasons for which a peer or a token is refused. Each is returned when…
var (
	// ErrNotAdmitted is returned when there is no certificate, or it names another key.
	ErrNotAdmitted = errors.New("not admitted to the mesh")
	// ErrOtherMesh is returned when a certificate or a token belongs to another mesh.
	ErrOtherMesh = errors.New("belongs to another mesh")
	// ErrExpired is returned when a certificate is past its time, or before it.
	ErrExpired = errors.New("certificate is not valid now")
	// ErrForged is returned when a signature, a chain or the form of a certificate is wrong.
	ErrForged = errors.New("certificate does not verify")
	// ErrDenied is returned when an operator has put the peer out.
	ErrDenied = errors.New("is put out of the mesh")
	// ErrOperatorNode is returned when the node of an operator is to be put out.
	ErrOperatorNode = errors.New("operators' nodes cannot be denied")
	// ErrOthersDenial is returned when an operator lifts what only another one said.
	ErrOthersDenial = errors.New("only the operator that denies it lifts that")
	// ErrNumbers is returned when an operator has made as many statements as it can.
	ErrNumbers = errors.New("out of numbers")

	// ErrRotated is returned when a key was given another's place less than RotateEvery ago.
	ErrRotated = errors.New("its key was changed a short while ago")

	// ErrReplaced is returned when a key is spoken of whose node has another one now.
	ErrReplaced = errors.New("the node's key was changed")

	// ErrTokenForm is returned when a text is not an invitation at all.
	ErrTokenForm = errors.New("not an invitation")
	// ErrTokenTypo is returned when an invitation's checksum is wrong: a character was lost or changed.
	ErrTokenTypo = errors.New("invitation was mistyped or cut short")
	// ErrTokenVersion is returned when an invitation is of a version that this program does not know.
	ErrTokenVersion = errors.New("invitation is of another version")
	// ErrTokenUsed is returned when every use of an invitation is taken.
	ErrTokenUsed = errors.New("invitation was used already")
	// ErrTokenExpired is returned when an invitation's time is over.
	ErrTokenExpired = errors.New("invitation has expired")
	// ErrTokenUnknown is returned when the node that is asked did not make the invitation,
	// or the proof of its secret is wrong.
	ErrTokenUnknown = errors.New("invitation is not known to this node")
	// ErrTooMany is returned when an issuer holds as many invitations as it may.
	ErrTooMany = errors.New("too many invitations at once")
	// ErrBusy is returned when an issuer was asked by more machines than it lets
	// in at a time. Asking again a little later helps.
	ErrBusy = errors.New("the node that was asked lets in others at the moment")
	// ErrName is returned when a node's name is not 1 to 63 letters, digits, dots, dashes or underscores.
	ErrName = errors.New("name must be 1 to 63 letters, digits, '.', '-' or '_'")
	// ErrKeyFile is returned when a key file cannot be trusted or read.
	ErrKeyFile = errors.New("key file is not usable")
)

// hints are what a person can do about each reason.
var hints = []struct {
	err  error
	hint string
}{
	{ErrTokenUsed, "ask for a new one: `perrin invite` on a node of the mesh (--uses N for several machines)"},
	{ErrTokenExpired, "set the clock right if it is wrong; else ask for a new one: `perrin invite --ttl 24h` on a node of the mesh"},
	{ErrTokenUnknown, "join through the node that made the invitation, or ask for a new one"},
	{ErrTokenTypo, "copy the whole token again, from perrin1- to its last character"},
	{ErrTokenForm, "a token starts with perrin1-; `perrin invite` prints one"},
	{ErrTokenVersion, "use the same version of perrin on both machines"},
	{ErrOtherMesh, "this machine or the token belongs to a different mesh; check which one you mean"},
	{ErrDenied, "an operator can let it in again: `perrin deny --lift PEER`; `perrin trust status` lists who is put out"},
	{ErrOperatorNode, "remove the operator first: `perrin operator remove NAME` where the root key is"},
	{ErrOthersDenial, "`perrin trust status` says who denies it; type `perrin deny --lift` on that operator's node"},
	{ErrNumbers, "give the operator a new key: `perrin operator add NAME --rotate` where the root key is"},
	{ErrRotated, "wait until a day has passed since the last change; if somebody else made it, have an operator deny the node and join again"},
	{ErrReplaced, "name the node by the key that it has now; an old key stays out"},
	{ErrExpired, "check both clocks (`date -u`); a node that was away for long joins again with a new invitation"},
	{ErrForged, "the peer's certificates are damaged or made up; join again with a new invitation"},
	{ErrNotAdmitted, "join the mesh first: `perrin invite` there, `perrin join TOKEN` here"},
	{ErrBusy, "try again in some seconds"},
	{ErrTooMany, "wait until some expire, or use one invitation with --uses N"},
	{ErrName, "choose another name with --name"},
	{ErrKeyFile, "keys are files of mode 0600 in a folder of mode 0700, owned by you"},
}

// Hint returns what a person can do about err, or "".
func Hint(err error) string {
	for _, h := range hints {
		if errors.Is(err, h.err) {
			return h.hint
		}
	}
	return ""
}
