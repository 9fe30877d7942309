"""The layouts of public data sets: `neuralcf describe` finds the columns of each without options, and says which."""

import json

import pytest

from neuralcf.cli import main

USERS = ["ann", "bob", "cleo", "dan"]
T = 1_370_000_000


def table(header, row, delimiter=",", users=USERS):
    """Write a header and a row for each user: `n` their number, `m` an item, `t` a time."""
    lines = [header] if header else []
    lines += [row.format(u=user, n=n, m=9 - n, t=T + 100 * n) for n, user in enumerate(users)]
    return "\n".join(line.replace(",", delimiter) for line in lines) + "\n"


SHAPES = {  # name: (file name, text, columns that are read, columns that are passed over)
    "MovieLens u.data": (
        "u.data",
        table("", "{n},{m},3,{t}", "\t"),
        "user=0 item=1 rating=2 timestamp=3",
        [],
    ),
    "MovieLens ratings.dat": (
        "ratings.dat",
        table("", "{n},{m},3,{t}", "::"),
        "user=0 item=1 rating=2 timestamp=3",
        [],
    ),
    "MovieLens ratings.csv": (
        "ratings.csv",
        table("userId,movieId,rating,timestamp", "{n},{m},3.5,{t}"),
        "user=userId item=movieId rating=rating timestamp=timestamp",
        [],
    ),
    "RecBole": (
        "x.inter",
        table("user_id:token,item_id:token,rating:float,timestamp:float", "{n},{m},3,{t}", "\t"),
        "user=user_id:token item=item_id:token rating=rating:float timestamp=timestamp:float",
        [],
    ),
    "RetailRocket": (
        "events.csv",
        table("timestamp,visitorid,event,itemid,transactionid", "{t}000,{n},view,{m},"),
        "user=visitorid item=itemid timestamp=timestamp",
        ["event", "transactionid"],
    ),
    "Yelp": (
        "review.json",
        "".join(
            json.dumps(
                {
                    "review_id": "r",
                    "user_id": u,
                    "business_id": f"b{n}",
                    "stars": 4.0,
                    "text": "a\nb",
                    "date": f"2018-07-0{n + 1} 22:09:11",
                }
            )
            + "\n"
            for n, u in enumerate(USERS)
        ),
        "user=user_id item=business_id rating=stars timestamp=date",
        ["review_id", "text"],
    ),
    "Amazon JSON": (
        "reviews.json",
        "".join(
            json.dumps(
                {
                    "reviewerID": f"A{n}XX",
                    "asin": f"B00{n}",
                    "overall": 5.0,
                    "reviewTime": "09 13, 2009",
                    "unixReviewTime": T + n,
                }
            )
            + "\n"
            for n in range(4)
        ),
        "user=reviewerID item=asin rating=overall timestamp=unixReviewTime",
        ["reviewTime"],
    ),
    "Amazon 2018 CSV": (
        "ratings_Books.csv",
        "".join(f"000171346{n},A1C6M8LCIX4M6{n},5.0,{T + n}\n" for n in range(4)),
        "user=1 item=0 rating=2 timestamp=3",
        [],
    ),
    "Amazon 2023 CSV": (
        "Books.csv",
        table("user_id,parent_asin,rating,timestamp", "{u},B0{n},5.0,{t}000"),
        "user=user_id item=parent_asin rating=rating timestamp=timestamp",
        [],
    ),
    "REES46": (
        "2019-Oct.csv",
        table(
            "event_time,event_type,product_id,price,user_id,user_session",
            "2019-10-01 00:00:0{n} UTC,view,{m},1.5,{n},s{n}",
        ),
        "user=user_id item=product_id timestamp=event_time",
        ["event_type", "price", "user_session"],
    ),
    "H&M": (
        "transactions_train.csv",
        table(
            "t_dat,customer_id,article_id,price,sales_channel_id",
            "2018-09-2{n},{u},066354100{n},0.05,2",
        ),
        "user=customer_id item=article_id timestamp=t_dat",
        ["price", "sales_channel_id"],
    ),
    "Book-Crossing": (
        "BX-Book-Ratings.csv",
        table('"User-ID","ISBN","Book-Rating"', '"{n}","034545104{m}","{n}"', ";"),
        "user=User-ID item=ISBN rating=Book-Rating",
        [],
    ),
    "LightGCN": ("train.txt", "0 5 6 7 8\n1 6\n2 5 9 11\n3 5 8\n", "user=0 item=1...", []),
    "KONECT": (
        "out.lists",
        "% bip weighted\n% 4 3 3\n1 1 5 1089000000\n1 2 4\t1089000001\n2 1 3 1089000002\n3 3 3 1089000003\n",
        "user=0 item=1 rating=2 timestamp=3",
        [],
    ),
    "SNAP edges": (
        "edges.txt",
        "# Nodes: 4 Edges: 4\n# FromNodeId\tToNodeId\n0\t1\n0\t2\n1\t2\n3\t1\n",
        "user=0 item=1",
        [],
    ),
    "Last.fm HetRec": (
        "user_artists.dat",
        table("userID,artistID,weight", "{n},{m},90{n}", "\t"),
        "user=userID item=artistID",
        ["weight"],
    ),
    "Last.fm 360K": (
        "plays.tsv",
        table("", "000000000000000000000000000000000000000{n},3bd73256-{n}d,betty {u},213{n}", "\t"),
        "user=0 item=1",
        ["2", "3"],
    ),
    "Online retail": (
        "retail.csv",
        table(
            "InvoiceNo,StockCode,Quantity,InvoiceDate,UnitPrice,CustomerID,Country",
            "5{n},85123A,6,2010-12-01 08:26,2.55,{n},France",
        ),
        "user=CustomerID item=StockCode timestamp=InvoiceDate",
        ["InvoiceNo", "Quantity", "UnitPrice", "Country"],
    ),
    "Excel": (
        "export.csv",
        "sep=;\nuser;item;rating\n1;2;3,5\n1;3;4,0\n2;2;1,0\n",
        "user=user item=item rating=rating",
        [],
    ),
    "times in the third column": (
        "t.tsv",
        table("", "{n},{m},{t}", "\t"),
        "user=0 item=1 timestamp=2",
        [],
    ),
}


@pytest.mark.parametrize(("file", "text", "columns", "passed_over"), SHAPES.values(), ids=SHAPES.keys())
def test_describe_finds_the_columns(tmp_path, capsys, file, text, columns, passed_over):
    (tmp_path / file).write_text(text)
    assert main(["describe", str(tmp_path / file), "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    (read,) = facts["files"]
    assert (" ".join(read["columns"]), read["passed_over"], read["bad"]) == (columns, passed_over, 0)
    assert facts["interactions"]["users"] >= 2
    assert (facts["interactions"]["timestamps"] is not None) == ("timestamp=" in columns)
    assert main(["describe", str(tmp_path / file)]) == 0
    printed = capsys.readouterr().out
    assert all(name in printed for name in (*columns.split(), *passed_over))
    guesses = {
        "LightGCN": "a user and the items",
        "Amazon 2018 CSV": "Amazon's items",
        "times in the third column": "times",
    }
    assert all(word in printed for name, word in guesses.items() if SHAPES[name][0] == file)
