//! Keys for tests. They protect nothing.

/// An HS256 secret.
pub const SECRET: &[u8] = b"a secret of thirty-two bytes or more";
/// Another one.
pub const OTHER_SECRET: &[u8] = b"another secret of at least 32 bytes!";
/// An Ed25519 private key.
pub const PRIVATE_PEM: &str = "\
-----BEGIN PRIVATE KEY-----\n\
MC4CAQAwBQYDK2VwBCIEIJw0AOgBtx7WylPRuG1kxJS8OFPHz9aZjZjzzGFB1CDg\n\
-----END PRIVATE KEY-----\n\
";
/// Its public half.
pub const PUBLIC_PEM: &str = "\
-----BEGIN PUBLIC KEY-----\n\
MCowBQYDK2VwAyEAGoiLX0SvtJakfWp8KknsF1QgwwBtLSfWoEoIZu0nMqw=\n\
-----END PUBLIC KEY-----\n\
";
/// The public half of another key.
pub const OTHER_PUBLIC_PEM: &str = "\
-----BEGIN PUBLIC KEY-----\n\
MCowBQYDK2VwAyEA929wo/F7a4BjC/sl/y6gqI4iTrYG1xEOv0UMw5jChm0=\n\
-----END PUBLIC KEY-----\n\
";
/// A private key on P-256.
pub const EC_PRIVATE_PEM: &str = "\
-----BEGIN PRIVATE KEY-----\n\
MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQgj+74ZVkJrz8/Qu/8\n\
k2pGkUAwUf1XftW2YPOH964zWCqhRANCAATkr1Ge+iYHd/RaG1uFKVstXcbZiuFf\n\
xMOYoDG2WM1m5yeagVmnwiM6BKqwhriJnk5JYFIHOcZDMJV2E70ia5/S\n\
-----END PRIVATE KEY-----\n\
";
/// Its public half.
pub const EC_PUBLIC_PEM: &str = "\
-----BEGIN PUBLIC KEY-----\n\
MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAE5K9RnvomB3f0WhtbhSlbLV3G2Yrh\n\
X8TDmKAxtljNZucnmoFZp8IjOgSqsIa4iZ5OSWBSBznGQzCVdhO9Imuf0g==\n\
-----END PUBLIC KEY-----\n\
";
/// The public half of another one.
pub const OTHER_EC_PUBLIC_PEM: &str = "\
-----BEGIN PUBLIC KEY-----\n\
MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAEt0Veeyuh68pH9ffkXdUaTdZDB6i2\n\
UNafgZijmsRdtaueq6pgFTFWpfRDfuck/ljg+mvcENWGSwaCqNuxrjFITg==\n\
-----END PUBLIC KEY-----\n\
";
/// An RSA private key of 2048 bits.
pub const RSA_PRIVATE_PEM: &str = "\
-----BEGIN PRIVATE KEY-----\n\
MIIEvQIBADANBgkqhkiG9w0BAQEFAASCBKcwggSjAgEAAoIBAQC9EmLaKHt4mGBe\n\
L7/3h3OjeuAC5L7W0knp/BIuoIj+98nx8+7yG8HDXMSzNtkEy6PkLE6a1QiHtQJu\n\
Gful1vvFpkC/33sswysatirbjJnsQPzjwCHsFl/0lf4DyCsHsa9GClB/kBtpBhlh\n\
8S8WE1AowNhohYz5kskSSSjYN1MhbmwrvTfEsCg0jl9ouzjwS/5MwNkl2UtCAK9A\n\
2ax1yfc4PKd+OX7BvJwh4nfXi00iN/yTYeGjnep/o5zykeGzSxXiaHeYGaJ8CnR6\n\
KvLeroEKG/iUtYnaHPtB7lxtgz0NNJmZam36KBJr8rEqsolbmAFvz/0Xfg2TOeZ7\n\
3FqKrK//AgMBAAECggEAC3gbjf9JqiGYKu57lyDc12xjPVmx5+ceu7ZiRfjQBqNy\n\
WR6CfqZHZTnx5qsrk/pkaTl01TiaCV1mFda2qLM3V6CDqf/9AVSff0HQrLvFNIsm\n\
rAwiIqeiz3vvyjvwvEk/iCClDG/p8b+Ad6wBPrYSNT6pggGj8RnB372XYDJO9Saa\n\
bm/tfFb6ViauaeLrmH+DYmVtBi9TIT6D05zVmXZaykSnqBJHJtZLxyZ5WJq86XYJ\n\
Q8w3PopPD/3ivGmT51oLQ2zb9XUZ1jbuFKN6imfNxMcy6aHc14H79Pv0jWB7gUz1\n\
d3UxL1pjZeaW2Q3raYvTiD3fEEvIVI6YYUQlyQSDZQKBgQDiTHXv4oBgyUK/8a2Z\n\
tSjUG/hzrBS6eE01EQhIeunVAI2N5lWtTYjWJHUqayLj5FUZps7CvhVdCkjeQORR\n\
sbTpP0zsJtaY9BnufdjPpjXVR0OQuhVFCiDlYU0N3EgncCSq4Rl+syiuQPa6jvYV\n\
FEYe1r5ViQyToxymwVc9gsteOwKBgQDV4x51rtWdjfA+OaGyty+qNmW3kkeWg7or\n\
dNagAjgtQNTfRQS91qHpor5Pk1xuxFAd88nBs49W7d84xESMDOxkHWq5oAIkEsn2\n\
3Vfjq7cXEbLJfJ/qkm9SUEuxMrrRf4orB91/nVBJZLby3T2AtXu8iVSrYIo6U5vB\n\
fgUHk6lFDQKBgQCbGDQsOFwr+UPaMVT9Z3+X/6OEA4ghVJn1qLq4kiT4auyZOCe4\n\
Is+JlGsIq2y6K593eS9zoLsbjRTr3iWdJ+IJiey6XNPu+D1dirqxdgSnK7RO2HoD\n\
WzG4g7s/qJ17CgzXYHcMstVKuBNhQOG/CKoWMK86CDeqZ7wXPaMA8UdYSQKBgAgr\n\
N3OZLNFqpV1LCDDyLCDdGP9s180Y1NhqCvRrgUfBLSAl26uAcgihTZFueF5GoySx\n\
tefu+q+AQEFDxbZvm+uq7/OM9+f2y73g8EVivohkBacKWnU0CIplRK7M2DO+IkHI\n\
eB4ynOlgrlgSORIcXFB0EkbFViIqJU27iWejrRhVAoGAAcWdgNPtIdMs8hz7BE4R\n\
5lmL6znIMZWqj5VuiA1dWJUTccVjHDUsNSku7tZG71NgCDT6a8xVhhbF7a51mI30\n\
PPl2uViqCiT/tGGEgCUuIsH0DBeZ6c3Czv+wEcEthSlYLGyc3pnWV11GTq09wo+M\n\
wBmGBM82H2O+yvj3YuZgkJM=\n\
-----END PRIVATE KEY-----\n\
";
/// Its public half.
pub const RSA_PUBLIC_PEM: &str = "\
-----BEGIN PUBLIC KEY-----\n\
MIIBIjANBgkqhkiG9w0BAQEFAAOCAQ8AMIIBCgKCAQEAvRJi2ih7eJhgXi+/94dz\n\
o3rgAuS+1tJJ6fwSLqCI/vfJ8fPu8hvBw1zEszbZBMuj5CxOmtUIh7UCbhn7pdb7\n\
xaZAv997LMMrGrYq24yZ7ED848Ah7BZf9JX+A8grB7GvRgpQf5AbaQYZYfEvFhNQ\n\
KMDYaIWM+ZLJEkko2DdTIW5sK703xLAoNI5faLs48Ev+TMDZJdlLQgCvQNmsdcn3\n\
ODynfjl+wbycIeJ314tNIjf8k2Hho53qf6Oc8pHhs0sV4mh3mBmifAp0eiry3q6B\n\
Chv4lLWJ2hz7Qe5cbYM9DTSZmWpt+igSa/KxKrKJW5gBb8/9F34Nkznme9xaiqyv\n\
/wIDAQAB\n\
-----END PUBLIC KEY-----\n\
";
/// The same in PKCS #1.
pub const RSA_PKCS1_PEM: &str = "\
-----BEGIN RSA PUBLIC KEY-----\n\
MIIBCgKCAQEAvRJi2ih7eJhgXi+/94dzo3rgAuS+1tJJ6fwSLqCI/vfJ8fPu8hvB\n\
w1zEszbZBMuj5CxOmtUIh7UCbhn7pdb7xaZAv997LMMrGrYq24yZ7ED848Ah7BZf\n\
9JX+A8grB7GvRgpQf5AbaQYZYfEvFhNQKMDYaIWM+ZLJEkko2DdTIW5sK703xLAo\n\
NI5faLs48Ev+TMDZJdlLQgCvQNmsdcn3ODynfjl+wbycIeJ314tNIjf8k2Hho53q\n\
f6Oc8pHhs0sV4mh3mBmifAp0eiry3q6BChv4lLWJ2hz7Qe5cbYM9DTSZmWpt+igS\n\
a/KxKrKJW5gBb8/9F34Nkznme9xaiqyv/wIDAQAB\n\
-----END RSA PUBLIC KEY-----\n\
";
/// The public half of another one.
pub const OTHER_RSA_PUBLIC_PEM: &str = "\
-----BEGIN PUBLIC KEY-----\n\
MIIBIjANBgkqhkiG9w0BAQEFAAOCAQ8AMIIBCgKCAQEA4x4RZDuR9GHFAC6ybVg7\n\
jJhQwf/Zw8Fn/3OuNQjL6jb3MZ7HosnTjT6MbYJay6ordgl/4GXpW2zvMxfPNOYf\n\
3zr94Uan3rEIhCuLK3CQAb2PFHHGxR+xKA1nC+i+EWRtHjKj6fBR+RT8voeBDTct\n\
QK1+3ATA6hpKgc86huOcD5ZSJkeCeja1L/vEnNjPAN9K4pucGN8kAv+1PaJtA/3a\n\
5li1ncqZADZUPuHtOIXCXNCn3KmGueDdcTI0ntqsoqujKB0YkTSRVR+Wm9swXxQh\n\
eDBiYRvaZ94JcdtppDy01qNHRV6tDQ4Dp03F3F+QqktJ7l8pXy7eOnt2qUsDHy65\n\
2QIDAQAB\n\
-----END PUBLIC KEY-----\n\
";
/// A private key on P-384.
pub const P384_PRIVATE_PEM: &str = "\
-----BEGIN PRIVATE KEY-----\n\
MIG2AgEAMBAGByqGSM49AgEGBSuBBAAiBIGeMIGbAgEBBDD9R9xPo20T//cvnuNY\n\
Du1DMqcT0wv2f7BIsuqL165mMnhQSy2ZrwEpEmQpMMrFfkChZANiAASWxZM8+zyr\n\
d9w86O7/LXqJtMmou04IpUB1oj/Y+g6nuEfbrIMiyTfid4BLZlmky7zWe/DmM62Y\n\
34K7iuzqkFLolYsKxzEJ6A/bXJNkwUeYlF6dSk014Hj5zHUDCWGJ7Ko=\n\
-----END PRIVATE KEY-----\n\
";
/// Its public half.
pub const P384_PUBLIC_PEM: &str = "\
-----BEGIN PUBLIC KEY-----\n\
MHYwEAYHKoZIzj0CAQYFK4EEACIDYgAElsWTPPs8q3fcPOju/y16ibTJqLtOCKVA\n\
daI/2PoOp7hH26yDIsk34neAS2ZZpMu81nvw5jOtmN+Cu4rs6pBS6JWLCscxCegP\n\
21yTZMFHmJRenUpNNeB4+cx1Awlhieyq\n\
-----END PUBLIC KEY-----\n\
";
/// A public key on secp256k1, whose points are as long as those of P-256.
pub const K1_PUBLIC_PEM: &str = "\
-----BEGIN PUBLIC KEY-----\n\
MFYwEAYHKoZIzj0CAQYFK4EEAAoDQgAEW+TgbXxVACPITJRoHg4pNIowMWJk8XvJ\n\
b4gK1Rt3ZlqLyfgeJzrhoJGeDVSle0kQCYmsh4yIAOChV+rHOaSHZg==\n\
-----END PUBLIC KEY-----\n\
";
/// An RSA public key of 1024 bits.
pub const SHORT_RSA_PUBLIC_PEM: &str = "\
-----BEGIN PUBLIC KEY-----\n\
MIGfMA0GCSqGSIb3DQEBAQUAA4GNADCBiQKBgQCytHL0thnC2ixVHVtYTTOeFH8f\n\
r0MS0roNYWLAmxY3LMKWQ/5KVBjsoOozbCbesZfGQfAp1LwB/bzMZB/9c4rQihrc\n\
UhQzexj1qGZ8YgerzX07JAQ08DCF2apzHUpp02mW141t0iXQ7poYFm8LVAatPwK5\n\
TaDR/VO/Y8Jj8XZxGQIDAQAB\n\
-----END PUBLIC KEY-----\n\
";
