// SPDX-License-Identifier: Apache-2.0

import ISCSIBackstore
import Service
import Testing

@Suite("A logical unit at an iSCSI target, as it is written")
struct ISCSISpecificationTests {
    private static let url = "iscsi://10.1.2.3/iqn.2026-01.com.example:disk/4"

    @Test("may be a URL alone")
    func alone() throws {
        let specification = try LUNSpecification(Self.url)
        #expect(specification.path.isEmpty)
        #expect(specification.iSCSI?.url.lun == 4)
        #expect(specification.iSCSI?.isRequired == false)
        #expect(specification.iSCSI?.replacementTimeout == .seconds(120))
    }

    @Test("takes its place, its flags and its limits from keys")
    func keys() throws {
        let specification = try LUNSpecification(
            "iscsi=\(Self.url),target=2,lun=5,readonly,required,header-digest=required,"
                + "initiator=iqn.2026-01.com.example:me,replacement-timeout=30")
        #expect(specification.target == 2)
        #expect(specification.lun == 5)
        #expect(specification.isReadOnly)
        let configuration = try #require(specification.iSCSI)
        #expect(configuration.isRequired)
        #expect(configuration.headerDigest == .required)
        #expect(configuration.initiatorName == "iqn.2026-01.com.example:me")
        #expect(configuration.replacementTimeout == .seconds(30))
    }

    @Test("stands beside files")
    func mixed() throws {
        let specifications = try ["a.img", Self.url, "target=0,lun=1,path=b.img"].map {
            try LUNSpecification($0)
        }
        let luns = try LUNSpecification.resolve(specifications)
        #expect(luns.map(\.path) == ["a.img", "", "b.img"])
        #expect(luns.map { $0.iSCSI != nil } == [false, true, false])
    }

    @Test("takes several portals, with the comma written twice")
    func portals() throws {
        let specification = try LUNSpecification(
            "iscsi=iscsi://10.1.2.3,,10.1.2.4:3261/iqn.2026-01.com.example:disk/4,lun=1")
        #expect(specification.iSCSI?.url.portals.count == 2)
    }

    @Test("takes its secret from the environment")
    func secret() throws {
        let url = "iscsi://joe@10.1.2.3/iqn.2026-01.com.example:disk/4"
        let specification = try LUNSpecification("iscsi=\(url),secret-variable=PATH")
        #expect(specification.iSCSI?.url.secret != nil)
    }

    @Test(
        "is refused with a message that names the key and holds no secret",
        arguments: [
            ("iscsi=iscsi://joe%hush@h/example/1", "iscsi: 'example' is not a target's name"),
            ("iscsi=iscsi://joe%hush@h/iqn.2026-01.com.example/1,path=x", "either path= or iscsi="),
            ("iscsi=iscsi://joe%hush@h/iqn.2026-01.com.example/1,size=4", "unknown key 'size'"),
            ("iscsi=iscsi://joe%hush@h/iqn.2026-01.com.example/1,required=5", "'required' stands"),
            (
                "iscsi=iscsi://joe%hush@h/iqn.2026-01.com.example/1,header-digest=md5",
                "header-digest=md5 is none of optional, off, required"
            ),
            (
                "iscsi=iscsi://joe%hush@h/iqn.2026-01.com.example/1,replacement-timeout=x",
                "replacement-timeout=x is not a number from 0 to 86400"
            ),
            (
                "iscsi=iscsi://joe%hush@h/iqn.2026-01.com.example/1,target-user=t",
                "CHAP needs both a user and a secret"
            ),
            ("iscsi=iscsi://joe@h/iqn.2026-01.com.example/1", "CHAP needs both"),
            (
                "iscsi=iscsi://joe%hush@h/iqn.2026-01.com.example:a/1,block-size=4096",
                "'block-size' is for files and block devices; beside iscsi= are allowed target, lun"
            ),
            (
                "wwn=5000000000000001,iscsi=iscsi://joe%hush@h/iqn.2026-01.com.example:a/1",
                "'wwn' is for files and block devices"
            ),
            (
                "iscsi=iscsi://joe%hush@h/iqn.2026-01.com.example:a/1,iops=5",
                "'iops' is for files and block devices"
            ),
            (
                "iscsi://joe%hush@h/iqn.2026-01.com.example:a/1,readonly",
                "is written iscsi=iscsi://joe%***@h/iqn.2026-01.com.example:a/1,readonly; a comma"
            ),
            ("required,lun=1", "'required' needs iscsi= beside it"),
            ("iscsi://joe%hush@h/iqn.2026-01.com.example", "not an iSCSI URL"),
            (
                "iscsi=iscsi://joe@h/iqn.2026-01.com.example/1,secret-file=/nowhere",
                "the CHAP secret in /nowhere cannot be read"
            ),
        ])
    func refused(text: String, message: String) throws {
        let error = #expect(throws: ConfigurationError.self) { try LUNSpecification(text) }
        let description = try #require(error).description
        #expect(description.contains(message), "\(description)")
        #expect(!description.contains("hush"))
        #expect(description.hasPrefix("--lun"))
    }
}
