// SPDX-License-Identifier: Apache-2.0

import ArgumentParser
import Service

/// The flags that say how the vsock device behaves; `VsockSettings` reads them.
struct VsockFlags: ParsableArguments {
    @Option(
        name: .long,
        help: ArgumentHelp(
            "A Unix socket whose clients reach one port of the guest, without a CONNECT line: PORT=PATH. May be given again.",
            valueName: "port=path"))
    var vsockListen: [String] = []

    @Option(
        name: .long,
        help: ArgumentHelp(
            "The Unix socket that the guest reaches at one port of the host, instead of PATH_PORT; %c in it is the guest's CID, %p the port; *=PATH is for all other ports. May be given again.",
            valueName: "port=path"))
    var vsockConnect: [String] = []

    @Option(
        name: .long,
        help: ArgumentHelp("Connections at once (4096).", valueName: "number"))
    var vsockConnections: String?

    @Option(
        name: .long,
        help: ArgumentHelp(
            "Clients at once that have not named a port (256); one more displaces the oldest.",
            valueName: "number"))
    var vsockClients: String?

    @Option(
        name: .long,
        help: ArgumentHelp(
            "Ports that may be reached, and no others of that side: host:PORTS or guest:PORTS, where PORTS is N, N-M or *. May be given again.",
            valueName: "side:ports"))
    var vsockAllow: [String] = []

    @Option(
        name: .long,
        help: ArgumentHelp(
            "Ports that may not be reached, whatever is allowed. May be given again.",
            valueName: "side:ports"))
    var vsockDeny: [String] = []

    @Option(
        name: .long,
        help: ArgumentHelp(
            "How long a client waits for a guest that is not there, or does not listen yet (0).",
            valueName: "seconds"))
    var vsockWaitForGuest: String?

    @Option(
        name: .long,
        help: ArgumentHelp(
            "Where the services of other guests have their sockets; the guests reach each other by CID.",
            valueName: "directory"))
    var vsockSiblings: String?

    @Option(
        name: .long,
        help: ArgumentHelp(
            "A group of guests that reach each other (default). May be given again.",
            valueName: "name"))
    var vsockGroup: [String] = []

    @Option(
        name: .long,
        help: ArgumentHelp(
            "A file for every packet of the vsock device, which Wireshark reads.",
            valueName: "file"))
    var capture: String?

    @Option(
        name: .long,
        help: ArgumentHelp("How long that file may be (64).", valueName: "MiB"))
    var captureLimit: String?

    /// Each setting with what was given for it.
    private var given: [(name: VsockSettings.Name, texts: [String])] {
        let single: [(VsockSettings.Name, String?)] = [
            (.connections, vsockConnections), (.clients, vsockClients),
            (.waitForGuest, vsockWaitForGuest), (.siblings, vsockSiblings), (.capture, capture),
            (.captureLimit, captureLimit),
        ]
        return [
            (.listen, vsockListen), (.connect, vsockConnect), (.allow, vsockAllow),
            (.deny, vsockDeny), (.group, vsockGroup),
        ] + single.map { ($0.0, $0.1.map { [$0] } ?? []) }
    }

    /// Adds what the flags say.
    func write(to draft: inout ConfigurationDraft) throws(ConfigurationError) {
        for (name, texts) in given { try draft.set(.vsock(name), toAll: texts) }
    }
}
