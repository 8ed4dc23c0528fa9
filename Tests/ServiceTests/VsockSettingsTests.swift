// SPDX-License-Identifier: Apache-2.0

import Service
import Testing
import VirtioVsock

@Suite("The settings of a vsock device")
struct VsockSettingsTests {
    private func mistake(_ name: VsockSettings.Name, _ texts: String...) -> String? {
        var settings = VsockSettings()
        do throws(ConfigurationError) {
            for text in texts { try settings.add(name, text, place: "here") }
            return nil
        } catch {
            return error.description
        }
    }

    @Test("map ports to paths, in both directions")
    func maps() throws {
        var settings = VsockSettings()
        try settings.add(.listen, "22=/run/ssh", place: "here")
        try settings.add(.listen, "0=a=b", place: "here")
        try settings.add(.connect, "4294967294=/run/%c/%p", place: "here")
        #expect(settings.listeners == [22: "/run/ssh", 0: "a=b"])
        #expect(settings.services == [4_294_967_294: "/run/%c/%p"])
        try settings.add(.connect, "*=vsock:1:%p", place: "here")
        #expect(settings.services[4_294_967_295] == "vsock:1:%p")
    }

    @Test(
        "refuse what is no map",
        arguments: [
            "", "22", "22=", "=a", "-1=a", "+1=a", "x=a",
            "4294967295=a", "4294967296=a", " 22=a",
        ])
    func noMap(_ text: String) {
        let message = mistake(.listen, text)
        #expect(message == "here \(text): not PORT=PATH, each port once")
    }

    @Test("map a port once")
    func twice() {
        #expect(mistake(.connect, "22=a", "22=b") != nil)
        #expect(mistake(.connect, "*=a", "*=b") != nil)
        #expect(mistake(.connect, "*=") != nil)
        #expect(mistake(.listen, "*=a") != nil)
        #expect(mistake(.connect, "22=a", "23=a") == nil)
    }

    @Test("limit connections and clients", arguments: [VsockSettings.Name.connections, .clients])
    func limits(_ name: VsockSettings.Name) {
        #expect(mistake(name, "1") == nil)
        #expect(mistake(name, "65536") == nil)
        for text in ["0", "65537", "-1", "x", ""] {
            #expect(mistake(name, text) == "here \(text): not a number from 1 to 65536")
        }
    }

    @Test("are checked with the rest of the configuration")
    func paths() throws {
        var vsock = VsockConfiguration(socketPath: "v.sock", guestCID: 3, path: "v")
        try vsock.settings.add(.listen, "22=" + String(repeating: "x", count: 108), place: "here")
        #expect(throws: ConfigurationError.self) {
            try ServiceConfiguration(vsock: vsock).check(knownFeatures: [])
        }
    }

    @Test("allow and deny ports of either side")
    func rules() throws {
        var settings = VsockSettings()
        try settings.add(.allow, "host:1000-1999", place: "here")
        try settings.add(.allow, "guest:22", place: "here")
        try settings.add(.deny, "host:*", place: "here")
        #expect(settings.ports.allowed == [.init(.host, 1000...1999), .init(.guest, 22...22)])
        #expect(settings.ports.denied == [.init(.host, 0...4_294_967_295)])
        for text in ["", "22", "host:", "host:5-4", "host:1-2-3", "vm:1", "host:-1", "host:1:2"] {
            let form = "host:PORTS or guest:PORTS, where PORTS is N, N-M or *"
            #expect(mistake(.deny, text) == "here \(text): not \(form)")
        }
    }

    @Test("name siblings, groups and a file for packets")
    func others() throws {
        var settings = VsockSettings()
        try settings.add(.siblings, "/run/siblings", place: "here")
        try settings.add(.group, "blue", place: "here")
        try settings.add(.waitForGuest, "60", place: "here")
        try settings.add(.capture, "vm.pcap", place: "here")
        try settings.add(.captureLimit, "2", place: "here")
        #expect(settings.siblingDirectory == "/run/siblings")
        #expect(settings.groups == ["blue"])
        #expect(settings.waitForGuest == .seconds(60))
        #expect(settings.capturePath == "vm.pcap")
        #expect(settings.captureByteLimit == 2_097_152)
        for group in ["", "a b", "a/b", "a.b"] { #expect(mistake(.group, group) != nil) }
        #expect(mistake(.group, "a", "a") != nil)
        #expect(mistake(.waitForGuest, "3601") != nil)
        #expect(mistake(.captureLimit, "0") == "here 0: not a number of MiB from 1 to 1048576")
    }

    @Test("come from a file, a variable, or a flag")
    func places() throws {
        var draft = ConfigurationDraft()
        let file = """
            [vsock]
            socket = "v.sock"
            guest-cid = 3
            path = "v"
            listen = ["22=/run/ssh", "80=/run/web"]
            connections = 100
            wait-for-guest = 60
            """
        try draft.read(Array(file.utf8), path: "vm1.toml")
        try draft.readEnvironment { ["VHOSTD_VSOCK_CONNECTIONS": "200"][$0] }
        try draft.set(.vsock(.capture), to: "vm1.pcap")
        let settings = try #require(try draft.configuration().vsock).settings
        #expect(settings.listeners == [22: "/run/ssh", 80: "/run/web"])
        #expect(settings.connectionLimit == 200)
        #expect(settings.waitForGuest == .seconds(60))
        #expect(settings.capturePath == "vm1.pcap")
        try draft.set(.vsock(.listen), toAll: ["22"])
        #expect(throws: ConfigurationError.self) { try draft.configuration() }
    }
}
