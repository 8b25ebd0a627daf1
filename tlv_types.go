package proxyproto

// ALPN returns the application protocol that the client negotiated with the proxy (section
// 2.2.1), "h2" for example, and whether the proxy said so. It aliases t.
//
// It is what was spoken with the client, and what follows the header only if the proxy passes
// that on unchanged.
func (t TLVs) ALPN() ([]byte, bool) { return t.Lookup(TypeALPN) }

// Authority returns the host name that the client asked for, in UTF-8 (section 2.2.2), and
// whether there is one: over TLS the server name of its hello (SNI). It aliases t.
//
// The client chose it, and neither the proxy nor Parse has checked that it is a name at all: don't
// authorize by it, and quote it in logs. The request that follows may ask for another host.
func (t TLVs) Authority() ([]byte, bool) { return t.Lookup(TypeAuthority) }

// UniqueID returns the proxy's name for the connection, up to 128 bytes of any value (section
// 2.2.5), and whether it gave one. Through a chain of proxies that pass it on it stays the same, so
// that their logs and yours can be joined. It aliases t.
func (t TLVs) UniqueID() ([]byte, bool) { return t.Lookup(TypeUniqueID) }

// NetNS returns the name of the network namespace that the header's addresses belong to, in
// US-ASCII (section 2.2.7), and whether there is one. The same address in two namespaces is two
// different clients. It aliases t.
func (t TLVs) NetNS() ([]byte, bool) { return t.Lookup(TypeNetNS) }
