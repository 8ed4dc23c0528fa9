// SPDX-License-Identifier: Apache-2.0

import Testing

@testable import Service

@Suite("A wrong value in a configuration file")
struct WrongKeyTests {
    private static let serving = "[scsi]\nsocket = 's'\n"
    private static let vsock = "[vsock]\nsocket = 'v'\nguest-cid = 3\npath = 'h'\n"
    private static let disk = serving + "[[scsi.lun]]\npath = 'a'\n"
    private static let remote =
        serving + "[[scsi.lun]]\niscsi = 'iscsi://h/iqn.2026-01.com.example:a/1'\n"
    private static let notText = "a whole number stands where a string is wanted"
    private static let notTexts = "a whole number stands where a list of strings is wanted"
    private static let notNumber = "a string stands where a whole number is wanted"
    private static let ports = "not host:PORTS or guest:PORTS, where PORTS is N, N-M or *"

    /// A wrong value for each key that a file may have outside of the logical units.
    private static let keys = [
        WrongFile("disable-features = 5", "vm:1: disable-features: \(notTexts)"),
        WrongFile("[log]\nlevel = true", "vm:2: log.level: true or false stands where one of "),
        WrongFile("[control]\nsocket = 5", "vm:2: control.socket: \(notText)"),
        WrongFile("[metrics]\ntextfile = 5", "vm:2: metrics.textfile: \(notText)"),
        WrongFile("[metrics]\ntextfile = ''", "vm:2: metrics.textfile: the value is empty"),
        WrongFile(
            "[metrics]\ninterval = 86401", "vm:2: metrics.interval 86401: not a number from 1 to"),
        WrongFile("[scsi]\nsocket = 5", "vm:2: scsi.socket: \(notText)"),
        WrongFile(
            serving + "poll-us = 1001", "vm:3: scsi.poll-us 1001: not a number from 0 to 1000"),
        WrongFile(
            serving + "threads = 65", "vm:3: scsi.threads 65: not a number from 1 to 64"),
        WrongFile(
            serving + "lock-disks = 'never'",
            "vm:3: scsi.lock-disks never: not one of at-start, in-use"),
        WrongFile(serving + "initiator = 5", "vm:3: scsi.initiator: \(notText)"),
        WrongFile("[vsock]\nsocket = 5", "vm:2: vsock.socket: \(notText)"),
        WrongFile("[vsock]\nguest-cid = 'x'", "vm:2: vsock.guest-cid: \(notNumber)"),
        WrongFile("[vsock]\npath = 5", "vm:2: vsock.path: \(notText)"),
        WrongFile(vsock + "listen = '22=a'", "vm:5: vsock.listen: a string stands where a list"),
        WrongFile(
            vsock + "listen = ['22']", "vm:5: vsock.listen 22: not PORT=PATH, each port once"),
        WrongFile(
            vsock + "listen = ['22=a', '22=b']",
            "vm:5: vsock.listen 22=b: not PORT=PATH, each port once"),
        WrongFile(
            vsock + "connect = ['x=a']",
            "vm:5: vsock.connect x=a: not PORT=PATH, each port once; in it %c is the guest's CID"),
        WrongFile(
            vsock + "connections = 0", "vm:5: vsock.connections 0: not a number from 1 to 65536"),
        WrongFile(
            vsock + "clients = 65537", "vm:5: vsock.clients 65537: not a number from 1 to 65536"),
        WrongFile(vsock + "allow = ['22']", "vm:5: vsock.allow 22: \(ports)"),
        WrongFile(vsock + "deny = ['host:9-1']", "vm:5: vsock.deny host:9-1: \(ports)"),
        WrongFile(
            vsock + "wait-for-guest = 3601",
            "vm:5: vsock.wait-for-guest 3601: not a number from 0 to 3600"),
        WrongFile(vsock + "siblings = ''", "vm:5: vsock.siblings: the value is empty"),
        WrongFile(
            vsock + "group = ['a/b']",
            "vm:5: vsock.group a/b: not a name without blanks, slashes and dots, each group once"),
        WrongFile(vsock + "capture = 5", "vm:5: vsock.capture: \(notText)"),
        WrongFile(
            vsock + "capture-limit = 0",
            "vm:5: vsock.capture-limit 0: not a number from 1 to 1048576"),
    ]

    /// A wrong value for each key of a logical unit.
    private static let units = [
        WrongFile(disk + "target = 'x'", "vm:5: scsi.lun.target: \(notNumber)"),
        WrongFile(
            disk + "lun = 16384", "vm:5: scsi.lun: lun=16384 is not a number from 0 to 16383"),
        WrongFile(
            serving + "[[scsi.lun]]\npath = true", "vm:4: scsi.lun.path: true or false stands"),
        WrongFile(
            disk + "readonly = 1", "vm:5: scsi.lun.readonly: a whole number stands where true"),
        WrongFile(disk + "block-size = 4095", "vm:5: scsi.lun: block-size=4095 is neither 512 nor"),
        WrongFile(disk + "iops = -1", "vm:5: scsi.lun: iops=-1 is not a number from 1 to"),
        WrongFile(
            disk + "iops-burst = 0", "vm:5: scsi.lun: iops-burst=0 is not a number from 1 to"),
        WrongFile(
            disk + "bytes-per-second = '1M'", "vm:5: scsi.lun.bytes-per-second: \(notNumber)"),
        WrongFile(disk + "bytes-burst = 0", "vm:5: scsi.lun: bytes-burst=0 is not a number from 1"),
        WrongFile(
            disk + "physical-block-size = 1000",
            "vm:5: scsi.lun: physical-block-size=1000 is none of 512, 4096, 8192, 16384, 32768"),
        WrongFile(
            disk + "removable = 'yes'", "vm:5: scsi.lun.removable: a string stands where true"),
        WrongFile(
            disk + "vendor = 'more than 8'",
            "vm:5: scsi.lun: vendor=more than 8 is none of 1 to 8 printable ASCII characters"),
        WrongFile(disk + "product = ''", "vm:5: scsi.lun: product= is none of 1 to 16 printable"),
        WrongFile(
            disk + "revision = 'ä'", "vm:5: scsi.lun: revision=ä is none of 1 to 4 printable"),
        WrongFile(disk + "serial = 5", "vm:5: scsi.lun.serial: \(notText)"),
        WrongFile(
            disk + "wwn = '1234'",
            "vm:5: scsi.lun: wwn=1234 is none of 16 hexadecimal digits that begin with 2, 3 or 5"),
        WrongFile(
            disk + "reservations = ''", "vm:5: scsi.lun: reservations= is none of paths of a file"),
        WrongFile(
            disk + "shared = 1", "vm:5: scsi.lun.shared: a whole number stands where true"),
        WrongFile(
            disk + "shared = true", "vm:3: scsi.lun: 'shared' needs reservations= beside it"),
        WrongFile(remote + "path = 'a'", "vm:3: scsi.lun: either path= or iscsi=, not both"),
        WrongFile(
            serving + "[[scsi.lun]]\niscsi = 'iscsi://h/1'", "vm:4: scsi.lun: iscsi: not an iSCSI"),
        WrongFile(
            remote + "initiator = '\(String(repeating: "x", count: 256))'",
            "vm:3: scsi.lun: iscsi: the initiator's name "),
        WrongFile(remote + "secret-file = '/none'", "vm:5: scsi.lun: secret-file: "),
        WrongFile(remote + "secret-variable = 'NONE_OF_IT'", "vm:5: scsi.lun: secret-variable: "),
        WrongFile(remote + "target-user = 'u'", "vm:3: scsi.lun: "),
        WrongFile(remote + "target-secret-file = '/none'", "vm:5: scsi.lun: target-secret-file: "),
        WrongFile(
            remote + "target-secret-variable = 'NONE_OF_IT'",
            "vm:5: scsi.lun: target-secret-variable: "),
        WrongFile(
            remote + "header-digest = 'on'",
            "vm:5: scsi.lun: header-digest=on is none of optional, off, required"),
        WrongFile(remote + "required = 1", "vm:5: scsi.lun.required: a whole number stands where"),
        WrongFile(
            remote + "replacement-timeout = 86401",
            "vm:5: scsi.lun: replacement-timeout=86401 is not a number from 0 to 86400"),
    ]

    @Test("is refused with line and key", arguments: keys + units)
    func refused(wrong: WrongFile) {
        let message = wrong.found ?? "no message"
        #expect(message.hasPrefix(wrong.message), "\(message)")
    }

    @Test("is tried for every key that there is")
    func coverage() {
        // Keys stand alone or in tables: the last name in brackets before the line.
        var tried: Set<String> = []
        for file in Self.keys + Self.units {
            var table = ""
            for line in file.text.split(separator: "\n") {
                if line.hasPrefix("[") {
                    table = line.filter { $0 != "[" && $0 != "]" } + "."
                } else {
                    tried.insert(table + line.prefix { $0 != " " })
                }
            }
        }
        let ofUnits = LUNSpecification.keys.map { "scsi.lun." + $0 }
        let all = Set(ConfigurationKey.all.map(\.name) + ofUnits)
        #expect(all.subtracting(tried).isEmpty, "\(all.subtracting(tried).sorted())")
    }
}
