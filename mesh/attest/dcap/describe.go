package dcap

import (
	"fmt"
	"strings"

	"github.com/perrin-mesh/perrin/workload"
)

// Document is one that belongs to a quote: the name it has in evidence, that of
// the file that keeps it, and where Intel publishes it.
type Document struct {
	Item, File, URL string
}

// Intel's servers (PCS API, version 4).
const (
	server     = "https://api.trustedservices.intel.com/"
	rootServer = "https://certificates.trustedservices.intel.com/"
)

// Documents reads a quote without trusting it, and lists what belongs to it. The
// first is TCB information, whose answer also names who signed it (SignerItem).
func Documents(b []byte) ([]Document, error) {
	q, err := parseQuote(b)
	if err != nil {
		return nil, err
	}
	certs, err := parseChain(q.chain, platformCerts)
	if err != nil {
		return nil, fmt.Errorf("the chain of the machine's key: %w", err)
	}
	p, err := parsePlatform(certs[0])
	if err != nil {
		return nil, err
	}
	tee, ca := "tdx", "platform"
	if q.kind == workload.LevelSGX {
		tee = "sgx"
	}
	if strings.Contains(certs[0].Issuer.CommonName, "Processor") {
		ca = "processor"
	}
	return []Document{
		{TCBItem, tee + "-tcb-" + p.fmspc + ".json", server + tee + "/certification/v4/tcb?fmspc=" + p.fmspc},
		{IdentityItem, tee + "-qe-identity.json", server + tee + "/certification/v4/qe/identity"},
		{ListItem, "pck-" + ca + ".crl", server + "sgx/certification/v4/pckcrl?ca=" + ca + "&encoding=der"},
		{RootListItem, "intel-root.crl", rootServer + "IntelSGXRootCA.der"},
	}, nil
}
